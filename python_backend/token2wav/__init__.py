"""Audio tokens to mel: the flow model and its runtimes."""
