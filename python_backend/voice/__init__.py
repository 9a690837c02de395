"""A clip to what identifies its voice: prompt tokens, mel and speaker embedding."""
