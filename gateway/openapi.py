"""The OpenAPI document: FastAPI's own, made to say what this service really answers."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.models import Example
from fastapi.openapi.utils import get_openapi

from gateway.auth import OPEN_PATHS

SPEECH_EXAMPLES: dict[str, Example] = {
    "speak": {
        "summary": "Speak with a built-in voice",
        "value": {"model": "step-audio-editx", "voice": "happy_en", "input": "Hello there.", "response_format": "wav"},
    },
    "openai": {
        "summary": "As OpenAI's clients ask",
        "value": {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello there."},
    },
    "clone": {
        "summary": "Clone the voice of a recording",
        "value": {
            "input": "Hello there.",
            "step_audio": {
                "mode": "clone",
                "prompt_audio_url": "https://example.org/recording.wav",
                "prompt_text": "The words spoken in the recording.",
            },
        },
    },
    "emotion": {
        "summary": "Make a built-in voice's recording happier, in two passes",
        "value": {
            "voice": "happy_en",
            "step_audio": {"mode": "emotion", "edit_info": "happy", "intensity": 2.0, "n_edit_iter": 2},
        },
    },
    "paralinguistic": {
        "summary": "Put laughter into a recording",
        "value": {
            "input": "Good morning! [Laughter] The sun is out.",
            "voice": "happy_en",
            "step_audio": {"mode": "paralinguistic"},
        },
    },
    "tempo": {
        "summary": "Slow a recording down to four fifths, at the same pitch",
        "value": {"voice": "happy_en", "step_audio": {"mode": "speed", "edit_info": "0.8x"}},
    },
}


def install(app: FastAPI) -> None:
    """Let `app` publish the document made here."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    refusal = {"$ref": "#/components/schemas/ErrorBody"}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            if _is_frameworks(answers.get("422", {})):
                del answers["422"]  # such a fault is 400 here
            if path not in OPEN_PATHS:
                operation["security"] = [{}, {"bearer": []}]
                answers.setdefault(
                    "401", {"description": "Unauthorized", "content": {"application/json": {"schema": refusal}}}
                )
    return made


def _is_frameworks(answer: dict[str, Any]) -> bool:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("$ref", "").endswith("/HTTPValidationError"))
