"""Speech for training: sentences, and espeak-ng's rendering of them by many voices."""
