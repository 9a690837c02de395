"""The model names a request may use."""

from gateway.schemas import DEFAULT_MODEL

# Names that OpenAI's clients send; all mean the model served here.
OPENAI_ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")

OWNERS = {DEFAULT_MODEL: "stepfun-ai", **dict.fromkeys(OPENAI_ALIASES, "stepfun-ai")}
