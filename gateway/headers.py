"""What a response says about itself outside its body."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from gateway.errors import InvalidValue

EXPOSED = (
    "X-StepAudio-Model",
    "X-StepAudio-Served-By",
    "X-StepAudio-Variant",
    "X-StepAudio-Cache",
    "X-StepAudio-Sample-Rate",
    "X-StepAudio-Warning",
    "Server-Timing",
    "x-request-id",
    "openai-processing-ms",
    "openai-version",
    "Retry-After",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)

_MAX_METADATA_BYTES = 8192
_KEY_CHARACTERS = "!#$&'*+.^`|~"
_SAFE_IN_VALUE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_PLAIN_VALUE = re.compile(r"(?:[!-~\xa1-\xff](?:[ -~\xa0-\xff]*[!-~\xa1-\xff])?)?")


def field_value(text: str) -> str:
    """Return `text` where HTTP can carry it as it is, else its UTF-8 percent-encoded."""
    return text if _PLAIN_VALUE.fullmatch(text) else quote(text, safe=_SAFE_IN_VALUE)


def metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return one `x-metadata-<key>` header per entry.

    Keys keep the characters of an RFC 9110 token and have all others percent-encoded.

    Raises:
        InvalidValue: a key is empty, or all of it is more than headers should carry.
    """
    if "" in metadata:
        raise InvalidValue("metadata: a key is empty", param="metadata")
    headers = {f"x-metadata-{quote(key, safe=_KEY_CHARACTERS)}": field_value(value) for key, value in metadata.items()}
    if sum(len(key) + len(value) for key, value in headers.items()) > _MAX_METADATA_BYTES:
        raise InvalidValue(f"metadata: is more than {_MAX_METADATA_BYTES} bytes once encoded", param="metadata")
    return headers


def server_timing(stage_ms: Mapping[str, float]) -> str:
    """Return stage timings as the value of `Server-Timing` (W3C), which browsers' tools show."""
    return ", ".join(f"{stage};dur={spent:.1f}" for stage, spent in stage_ms.items())
