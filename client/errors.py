"""What Triton answers when it refuses or fails, in terms a caller can act on."""

import re

from tritonclient.utils import InferenceServerException

_INPUTS = frozenset(
    (
        "audio", "sample_rate", "mode", "text", "prompt_text", "edit_info", "intensity", "temperature", "top_k",
        "top_p", "repetition_aware", "grammar", "seed", "max_tokens", "steps", "guidance", "cancel_id", "variant",
        "language", "use_itn",
        "messages", "stop", "dimensions", "pooling", "kind", "instruction", "op",
    )
)  # fmt: skip
# Triton puts these in front of a member's own words, in any number.
_PREFIX = re.compile(
    r"^(?:\[request id: [^\]]*\]\s*|in ensemble '[^']*',\s*|(?:voice_encoder|llm_\w+|flow|vocoder|sense_voice): )"
)
_FIELD = re.compile(r"^([a-z][a-z0-9_]*): (.*)", re.DOTALL)
_FORGOTTEN = "voice_key: this voice is not kept"
_AWAY = re.compile(r"^(?:queue full|deadline passed|Request for unknown model)")
_PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+[\w.+-]*(?:\(\d+\))?(?::\d+)?")


class SpeechError(Exception):
    """A request that was not served; the message says why."""


class InvalidInput(SpeechError):
    """The model refused one input.

    Attributes:
        field: the tensor's name, empty where Triton itself refused the request.
        problem: what is wrong with it.
    """

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class VoiceForgotten(SpeechError):
    """The server keeps the voice of this key no longer: its clip must be sent."""


class QueueFull(SpeechError):
    """The engine has as much waiting as it accepts; try again later."""


class ServerUnavailable(SpeechError):
    """Triton is not there, still starts, or recovers."""


class DeadlineExceeded(SpeechError):
    """The answer did not come in time."""


class ModelFailed(SpeechError):
    """The model broke while it worked on the request."""


def translate(error: InferenceServerException) -> SpeechError:
    """Turn a Triton client's exception into ours, without request ids, paths and tracebacks."""
    message = _own_words(error.message() or str(error))
    if message.startswith(_FORGOTTEN):
        return VoiceForgotten(message)
    match (error.status() or _status_by(message)).removeprefix("StatusCode."):
        case "INVALID_ARGUMENT":
            found = _FIELD.match(message)
            if found and found[1] not in _INPUTS:  # what one stage gave the next is not the caller's to mend
                return ModelFailed(message)
            return InvalidInput(found[1], found[2]) if found else InvalidInput("", message)
        case "UNAVAILABLE" if message.startswith("queue full"):
            return QueueFull(message)
        case "UNAVAILABLE" | "NOT_FOUND":
            return ServerUnavailable(message)
        case "DEADLINE_EXCEEDED":
            return DeadlineExceeded("the speech server did not answer in time")
        case _ if message.startswith("Stub process") or "is not ready" in message:  # being replaced
            return ServerUnavailable(message)
        case _:
            return ModelFailed(message)


def _status_by(words: str) -> str:
    """Return the status behind `words`: errors inside a stream come without theirs."""
    found = _FIELD.match(words)
    if found and found[1] in _INPUTS:
        return "INVALID_ARGUMENT"
    return "UNAVAILABLE" if _AWAY.match(words) else "INTERNAL"


def _own_words(message: str) -> str:
    message = message.split("\n\nAt:")[0]
    _, found, rest = message.partition(", message: ")
    if found and message.startswith("Failed to process the request"):
        message = rest
    while match := _PREFIX.match(message):
        message = message[match.end() :]
    return _PATH.sub("…", message).strip()
