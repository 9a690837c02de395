"""The recipe of the demo checkpoint: speech of our own making, and every network trained on it."""
