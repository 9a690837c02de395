"""Write `docs/api.md` from the OpenAPI document, the errors and the settings.

`python -m gateway.apidocs > docs/api.md`
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.app import create_app
from gateway.errors import ApiError
from gateway.headers import EXPOSED
from gateway.settings import Settings
from gateway.triton_backend import triton_backend

_ROOT = Path(__file__).resolve().parent.parent

_INTRODUCTION = """# HTTP API

Generated from the code by `python -m gateway.apidocs`; do not edit. A running gateway serves the same as `/docs`,
`/redoc` and `/openapi.json`.

```bash
curl http://127.0.0.1:7860/v1/audio/speech -H 'Content-Type: application/json' \\
     -d '{"voice": "happy_en", "input": "Hello there."}' -o hello.wav
```

The official `openai` SDK works as it is: `OpenAI(base_url="http://127.0.0.1:7860/v1", api_key="anything")`. What OpenAI
has no field for travels in `extra_body={"step_audio": {...}}`.
"""

_RULES = """## Which recording, whose words

A clip is taken from, in this order: the uploaded file, base64, the URL, the named voice. A clone without any of them
uses the default voice; an edit needs a clip or a voice. A voice brings its own transcript, and a transcript sent beside
it is ignored, because wrong words spoil the speech. A clip of one's own needs its words (`prompt_text`, `audio_text`),
except for `denoise`, `vad` and a numeric speed; where a recogniser is loaded, words that are left out are recognised.

Tags are matched liberally (`Fearful`, `act coy`); an unlisted one goes to the model as it is, with a warning header. A
numeric speed (`0.8`, `0.8x`, `80%`) needs no model: the recording is stretched to exactly that rate at the same pitch.
Text reaches the model untouched, so tags such as `[Laughter]` and `[Cantonese]` and pinyin such as `guo4` keep working.
"""

_STREAMING = """## Streaming

With `stream: true` audio leaves as it is made, in any format; `with_streaming_response` of the `openai` SDK reads it.
With `stream_format: "sse"` it leaves as events, and their audio joined is the file:

```
data: {"type": "speech.audio.delta", "audio": "<base64>"}

data: {"type": "speech.audio.done", "usage": {"input_tokens": 362, "output_tokens": 125, "total_tokens": 487}}
```

- A failure before the first audio is a plain error. A later one closes the connection without the end of the body, or
  is the last event, `{"error": {...}}`.
- Hanging up stops the work at once.
- The length in a WAV header is 0xFFFFFFFF, since nobody knows it yet.
- Of several passes the last one streams. Long texts come piece by piece, the next one being made while one is heard.
- Codecs keep back a little of what came: MP3, AAC and FLAC up to 0.06 s, Opus 0.05 s; `speed` and a rate up to 0.1 s.
"""


def render() -> str:
    """Return the whole page."""
    settings = Settings.model_construct()
    document = create_app(settings, triton_backend(settings)).openapi()
    schemas = document["components"]["schemas"]
    named = [schemas[name] for name in ("SpeechRequest", "StepAudioOptions", "VoiceCard")]
    bodies = [f"## {schema['title']}\n\n{schema['description']}\n\n{_fields(schema)}" for schema in named]
    parts = [
        _INTRODUCTION,
        _endpoints(document),
        _RULES,
        _STREAMING,
        *bodies,
        _examples(document),
        _headers(),
        _errors(),
        _settings(),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _endpoints(document: dict[str, Any]) -> str:
    rows = [
        (f"`{method.upper()} {path}`", operation.get("description", ""), ", ".join(sorted(operation["responses"])))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return f"## Endpoints\n\n{_table(('request', 'what it does', 'answers'), rows)}"


def _fields(schema: dict[str, Any]) -> str:
    rows = []
    for name, field in schema["properties"].items():
        choices = [choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null"]
        default = field.get("default")
        shown = "" if default is None else f"`{json.dumps(default)}`"
        rows.append((f"`{name}`", " or ".join(map(_type, choices)), shown, field.get("description", "")))
    return _table(("field", "type", "default", "meaning"), rows)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[1]}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    number = int if schema.get("type") == "integer" else float
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    bounds = "" if low is None or high is None else f" {number(low)} … {number(high)}"
    length = f", up to {schema['maxLength']} characters" if "maxLength" in schema else ""
    return f"{schema.get('type', 'any')}{bounds}{length}"


def _examples(document: dict[str, Any]) -> str:
    content = document["paths"]["/v1/audio/speech"]["post"]["requestBody"]["content"]["application/json"]
    shown = [
        f"{example['summary']}:\n\n```json\n{json.dumps(example['value'], indent=2, ensure_ascii=False)}\n```\n"
        for example in content["examples"].values()
    ]
    return "## Examples\n\n" + "\n".join(shown)


def _headers() -> str:
    names = ", ".join(f"`{name}`" for name in EXPOSED)
    return (
        "## Response headers\n\n"
        f"{names}, and one `x-metadata-<key>` for each entry of `metadata`. Keys and values that a header cannot "
        "carry are percent-encoded UTF-8. `Server-Timing` lists the milliseconds spent in each stage.\n"
    )


def _errors() -> str:
    rows = sorted(
        (str(kind.status), f"`{kind.code}`" if kind.code else "null", (kind.__doc__ or "").strip())
        for kind in ApiError.__subclasses__()
    )
    envelope = '{"error": {"message": "…", "type": "…", "param": "step_audio.intensity", "code": "…"}, "detail": "…"}'
    return (
        f"## Errors\n\nEvery error has the body\n\n```json\n{envelope}\n```\n\n"
        f"`param` is the dotted path of the field at fault.\n\n{_table(('status', 'code', 'meaning'), rows)}"
    )


def _settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, Path):
            default = default.relative_to(_ROOT) if default.is_relative_to(_ROOT) else default
        rows.append((f"`GATEWAY_{name.upper()}`", f"`{default}`", field.description or ""))
    table = _table(("variable", "default", "meaning"), rows)
    return f"## Settings\n\nEnvironment variables of `python -m gateway`.\n\n{table}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return (
        "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
        )
        + "\n"
    )


if __name__ == "__main__":
    sys.stdout.write(render())
