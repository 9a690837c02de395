"""A small random checkpoint in the released layout, for tests and first runs."""
