"""From a released checkpoint to the files Triton loads."""
