"""The model names a request may use."""

from gateway.schemas import DEFAULT_MODEL

# Names that OpenAI's clients send; all mean the model served here.
OPENAI_ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")

RECOGNIZER_ALIASES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
)

OWNERS = {DEFAULT_MODEL: "stepfun-ai", **dict.fromkeys(OPENAI_ALIASES, "stepfun-ai")}
