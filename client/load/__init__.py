"""Load generators: many listeners at once, and what each of them heard."""
