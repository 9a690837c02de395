"""`/synthesize`: speech from a form, as a Flask service in front of IndexTTS2 made it."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from gateway.disconnect import CallerGone, unless_gone
from gateway.errors import MissingParameter
from gateway.form_schemas import SynthesizeRequest
from gateway.forms import form_body, read_form
from gateway.routers.plain_errors import PlainErrorRoute, plain_errors
from gateway.schemas import LONGEST_TOKENS, SHORTEST_TOKENS, SpeechRequest, StepAudioOptions
from gateway.speech import SpeechService

STYLES = {"style1": "story_teller", "style2": "happy_en", "style3": "whisper_cn"}
"""The built-in voice behind each of the service's three nameless recordings."""
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A WAV file: mono, 16-bit, 24 kHz.",
        "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
    },
    **plain_errors(400, 401, 404, 413, 415, 429, 500, 503, 504),
}


def router(service: SpeechService) -> APIRouter:
    """Return the route of `/synthesize`."""
    routes = APIRouter(tags=["synthesize"], route_class=PlainErrorRoute)

    @routes.post("/synthesize", response_class=Response, responses=_ANSWERS, openapi_extra=form_body(SynthesizeRequest))
    async def synthesize(request: Request) -> Response:
        """Speak in one of three styles, or in the voice of a recording."""
        try:
            form = await read_form(request, SynthesizeRequest)
        except RequestValidationError as error:
            if any(finding["type"] == "missing" for finding in error.errors()):
                raise MissingParameter("Missing required parameter: text", param="text") from None
            raise
        if not form.text.strip():
            raise MissingParameter("Missing required parameter: text", param="text")
        try:
            clip = form.prompt_audio if isinstance(form.prompt_audio, bytes) else None
            spoken = await unless_gone(request, service.speak(_asked(form), clip))
        except CallerGone:
            return Response(status_code=499)
        return Response(spoken.body, media_type="audio/wav")

    return routes


def _asked(form: SynthesizeRequest) -> SpeechRequest:
    options = StepAudioOptions(
        prompt_text=form.prompt_text,
        prompt_audio_base64=form.prompt_audio if isinstance(form.prompt_audio, str) else None,
        temperature=form.temperature,
        top_p=form.top_p,
        top_k=form.top_k,
        max_tokens=min(max(form.max_mel_tokens, SHORTEST_TOKENS), LONGEST_TOKENS),
    )
    voice = STYLES.get(form.style, STYLES["style1"])
    return SpeechRequest(input=form.text, voice=voice, step_audio=options, response_format="wav")
