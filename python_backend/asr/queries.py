"""What SenseVoice can be asked: rows of its query embedding, which FunASR writes into its code (`SenseVoiceSmall`)."""

AUTO = 0
LANGUAGES = {"zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12}
TEXT_NORMS = {"withitn": 14, "woitn": 15}
"""Written form (inverse text normalisation: punctuation, digits), and spoken form."""
