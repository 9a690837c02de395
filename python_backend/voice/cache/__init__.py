"""Voices remembered: what a clip was encoded to, by its content, in memory, on disk and in a shared Redis."""
