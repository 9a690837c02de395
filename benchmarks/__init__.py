"""Side-by-side measurements; each module prints the ratios it measured in one run."""
