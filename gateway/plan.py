"""What a request asks for, checked against the rules of each mode before any work is done."""

from dataclasses import dataclass, replace

from client.speech import (
    MODES_WITH_EDIT_INFO,
    MODES_WITH_TEXT,
    MODES_WITHOUT_TRANSCRIPT,
    Clip,
    Mode,
    Sampling,
    SpeechJob,
    derived_seed,
)
from gateway.encoding import AudioFormat
from gateway.errors import AudioTextRequired, InvalidValue, MissingParameter, ModelNotFound, PromptTextRequired
from gateway.models import OPENAI_ALIASES, OWNERS
from gateway.schemas import SpeechRequest
from gateway.source import Source, choose
from gateway.stretch import FASTEST, SLOWEST, parse_rate
from gateway.tags import control_token, match_tag, named_manner
from gateway.voices import VoiceLibrary


@dataclass(frozen=True)
class Plan:
    """A request that can be served.

    Attributes:
        needs_words: whether the words of the clip are still to be found out.
        text: what is to be spoken, empty where the mode speaks the clip's own words.
        manner: emotion or style that an edit gives the speech of a clone.
        passes: how often the model runs; 0 where a change of tempo is all that was asked.
        tempo: rate of the final stretch.
        warnings: what the caller should know about how the request was read.
    """

    request: SpeechRequest
    source: Source
    needs_words: bool
    text: str
    edit_info: str
    manner: tuple[Mode, str] | None
    passes: int
    tempo: float
    audio_format: AudioFormat
    warnings: list[str]

    def with_words(self, words: str) -> "Plan":
        """Return the plan for a clip in which `words` were recognised."""
        self.warnings.append("the words of the clip were not given and have been recognised")
        return replace(self, source=replace(self.source, transcript=words), needs_words=False)

    def job(self, clip: Clip, variant: str) -> SpeechJob:
        """Return the model's first pass over `clip`."""
        options = self.request.options
        return SpeechJob(
            mode=options.mode,
            clip=clip,
            prompt_text="" if options.mode in MODES_WITHOUT_TRANSCRIPT else self.source.transcript,
            text=self.text,
            edit_info=self.edit_info,
            intensity=options.intensity,
            sampling=Sampling(
                temperature=options.temperature,
                top_k=options.top_k,
                top_p=options.top_p,
                repetition_aware=options.repetition_aware,
                seed=options.seed,
                max_tokens=options.max_tokens,
            ),
            variant=variant,
            steps=options.steps,
            guidance=options.guidance,
        )


def manner_job(manner: tuple[Mode, str], cloned: SpeechJob, clip: Clip) -> SpeechJob:
    """Return the edit that gives `clip`, the speech of `cloned`, a `manner`."""
    mode, tag = manner
    sampling = replace(cloned.sampling, seed=derived_seed(cloned.sampling.seed or 0, 1))
    return replace(cloned, mode=mode, clip=clip, prompt_text=cloned.text, text="", edit_info=tag, sampling=sampling)


def make_plan(
    request: SpeechRequest, upload: bytes | None, voices: VoiceLibrary, max_chars: int, *, recognises: bool = False
) -> Plan:
    """Check `request` and settle every choice it leaves open.

    Args:
        request: the JSON part.
        upload: a clip that came beside it.
        voices: those that a request may name.
        max_chars: longest text to speak.
        recognises: whether the words of a clip can be found out, so that a request may leave them out.

    Raises:
        ApiError: it cannot be served; names the field.
    """
    if request.model not in OWNERS:
        raise ModelNotFound(f"no model is called {request.model!r}; see /v1/models", param="model")
    options = request.options
    warnings: list[str] = []
    text = _text(request, max_chars) if options.mode in MODES_WITH_TEXT else ""
    edit_info, rate = _edit_info(request, warnings) if options.mode in MODES_WITH_EDIT_INFO else ("", None)
    needs_words = options.mode not in MODES_WITHOUT_TRANSCRIPT and rate is None
    source = choose(request, upload, voices)
    needs_words = needs_words and not source.transcript
    if needs_words and not recognises:
        param, refusal = source.transcript_param, PromptTextRequired if options.mode == "clone" else AudioTextRequired
        raise refusal(f"{param}: the words spoken in the clip are needed", param=param)
    _check_words(source.transcript, source.transcript_param, max_chars)
    manner = named_manner(request.instructions or "") if options.mode == "clone" else None
    if manner:
        warnings.append(f"instructions are read as {manner[0]} {manner[1]}")
    elif request.instructions:
        warnings.append("instructions name no listed emotion or style and are not used")
    passes = 1 if options.mode == "clone" else options.n_edit_iter
    return Plan(
        request=request,
        source=source,
        needs_words=needs_words,
        text=text,
        edit_info=edit_info,
        manner=manner,
        passes=passes if rate is None else 0,
        tempo=request.speed * (rate or 1.0),
        audio_format=request.response_format or _default_format(request),
        warnings=warnings,
    )


def _default_format(request: SpeechRequest) -> AudioFormat:
    return "mp3" if request.model in OPENAI_ALIASES and request.step_audio is None else "wav"


def _text(request: SpeechRequest, max_chars: int) -> str:
    text = request.input or ""
    if not text.strip():
        raise MissingParameter(f"input: {request.options.mode} needs a text to speak", param="input")
    _check_words(text, "input", max_chars)
    return text


def _edit_info(request: SpeechRequest, warnings: list[str]) -> tuple[str, float | None]:
    """Return the tag for the model, or the rate where a numeric speed is asked."""
    param, mode = "step_audio.edit_info", request.options.mode
    wording = (request.options.edit_info or "").strip()
    if not wording:
        raise MissingParameter(f"{param}: {mode} needs a tag, see /v1/tags", param=param)
    rate = parse_rate(wording) if mode == "speed" else None
    if rate is not None:
        if not SLOWEST <= rate <= FASTEST:
            raise InvalidValue(f"{param}: a rate must be {SLOWEST:g} to {FASTEST:g}, is {rate:g}", param=param)
        return "", rate
    tag, listed = match_tag(mode, wording)
    _check_words(tag, param, max_chars=200)
    if not listed:
        warnings.append(f"edit_info {tag!r} is not a listed {mode} tag; the model gets it as it is")
    return tag, None


def _check_words(words: str, param: str, max_chars: int) -> None:
    if len(words) > max_chars:
        raise InvalidValue(f"{param}: is {len(words)} characters long, {max_chars} are the limit", param=param)
    token = control_token(words)
    if token:
        raise InvalidValue(f"{param}: must not contain the model's control token {token}", param=param)
