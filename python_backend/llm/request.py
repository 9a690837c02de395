"""What a caller asks of the language model, checked, and turned into what the engine runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from python_backend.errors import InvalidInput
from python_backend.llm import budget, grammar, prompt
from python_backend.llm.prompt import Prompt, PromptForm
from python_backend.llm.sampling import Sampling
from python_backend.llm.tokenizer import Tokenizer

MODES = ("clone", "emotion", "style", "speed", "paralinguistic", "denoise", "vad")
USES_TEXT = ("clone", "paralinguistic")
USES_PROMPT_TEXT = ("clone", "emotion", "style", "speed", "paralinguistic")
USES_EDIT_INFO = ("emotion", "style", "speed")
MAX_CHARACTERS = 16_384


@dataclass(frozen=True)
class SpeechRequest:
    """One request in the caller's terms; the field names are those of the Triton tensors.

    Raises:
        InvalidInput: a field is missing or unusable.
    """

    mode: str
    prompt_tokens: list[int]
    text: str = ""
    prompt_text: str = ""
    edit_info: str = ""
    intensity: float = 1.0
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    cancel_id: str = ""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidInput("mode", f"unknown mode {self.mode!r}, must be one of {', '.join(MODES)}")
        for name, modes in (("text", USES_TEXT), ("prompt_text", USES_PROMPT_TEXT), ("edit_info", USES_EDIT_INFO)):
            value: str = getattr(self, name)
            if self.mode in modes and not value.strip():
                raise InvalidInput(name, f"missing or empty, mode {self.mode} needs it")
            if len(value) > MAX_CHARACTERS:
                raise InvalidInput(name, f"has {len(value)} characters, the limit is {MAX_CHARACTERS}")
        if not self.prompt_tokens or len(self.prompt_tokens) % grammar.GROUP:
            raise InvalidInput("prompt_tokens", f"must be whole groups of five, has {len(self.prompt_tokens)} values")
        wrong = grammar.misplaced(self.prompt_tokens)
        if wrong is not None:
            token = self.prompt_tokens[wrong]
            raise InvalidInput("prompt_tokens", f"value {token} at {wrong} does not fit: two 0…1023, three 1024…5119")
        if self.max_tokens is not None and not grammar.GROUP <= self.max_tokens <= budget.LONGEST:
            raise InvalidInput("max_tokens", f"must be {grammar.GROUP} … {budget.LONGEST}, is {self.max_tokens}")
        low_high = (("intensity", self.intensity, 0.1, 3.0), ("temperature", self.sampling.temperature, 0.0, 2.0))
        for name, number, low, high in low_high:
            if not low <= round(number, 6) <= high:
                raise InvalidInput(name, f"must be {low} to {high}, is {number:g}")
        if not 0 < self.sampling.top_p <= 1:
            raise InvalidInput("top_p", f"must be above 0 and at most 1, is {self.sampling.top_p:g}")
        if self.sampling.top_k < 0:
            raise InvalidInput("top_k", f"must not be negative, is {self.sampling.top_k}")


@dataclass(frozen=True)
class Urgency:
    """How a request is queued.

    Args:
        priority: lower ones leave the queue first.
        seconds: how long the caller will wait, from arrival to the last token.
    """

    priority: int = 0
    seconds: float = math.inf

    @classmethod
    def of(cls, parameters: Mapping[str, object]) -> Self:
        """Read Triton's request parameters `priority_level` and `deadline_ms`, both optional.

        Raises:
            InvalidInput: one is not an integer, or the deadline is not above zero.
        """
        level, deadline = parameters.get("priority_level", 0), parameters.get("deadline_ms")
        if not isinstance(level, int):
            raise InvalidInput("priority_level", f"must be an integer, is {level!r}")
        if deadline is None:
            return cls(level)
        if not isinstance(deadline, int) or deadline <= 0:
            raise InvalidInput("deadline_ms", f"must be an integer above zero, is {deadline!r}")
        return cls(level, deadline / 1e3)


@dataclass(frozen=True)
class Generation:
    """One request in the engine's terms.

    Args:
        prompt: what the model reads.
        max_tokens: bound on generated ids.
        stop: the id that ends the generation.
        audio_offset: id of audio token 0; the answer is in the value space and must keep the pattern of `grammar`.
            None: the answer is raw ids, for parity.
        cancel_id: name by which `Engine.cancel` finds it, or "".
        urgency: its place in the queue, and how long it may take.
    """

    prompt: Prompt
    sampling: Sampling
    max_tokens: int
    stop: int
    audio_offset: int | None
    cancel_id: str = ""
    urgency: Urgency = field(default_factory=Urgency)


@dataclass(frozen=True)
class Tokens:
    """Newly generated tokens: whole groups of five, value space (raw ids where `audio_offset` is None)."""

    tokens: list[int]


@dataclass(frozen=True)
class Finished:
    """The last event of a request that went well.

    Args:
        reason: `stop`, or `length` where `max_tokens` ended it.
        usage: prompt ids, generated ids (the stop included).
        stage_ms: from arrival to the first token, from there to the last.
    """

    reason: str
    usage: tuple[int, int]
    stage_ms: tuple[float, float]


@dataclass(frozen=True)
class Failed:
    """The last event of a request that did not."""

    error: Exception


Event = Tokens | Finished | Failed
Emit = Callable[[Event], None]


def plan(request: SpeechRequest, tokenizer: Tokenizer, form: PromptForm, context: int) -> Generation:
    """Build the prompt and the token budget of `request`.

    Args:
        context: positions the model has for prompt and answer together.

    Raises:
        InvalidInput: a text holds a control or audio token, or prompt and budget do not fit the context.
    """
    used = {"text": USES_TEXT, "prompt_text": USES_PROMPT_TEXT, "edit_info": USES_EDIT_INFO}
    for name, modes in used.items():
        special = tokenizer.special_piece_in(getattr(request, name)) if request.mode in modes else None
        if special:
            raise InvalidInput(name, f"must be plain text, holds the control or audio token {special}")
    if request.mode == "clone":
        built = prompt.clone_prompt(tokenizer, request.text, request.prompt_text, request.prompt_tokens, form)
    else:
        instruction = prompt.edit_instruction(
            request.mode, request.prompt_text, request.edit_info, request.text, request.intensity
        )
        built = prompt.edit_prompt(tokenizer, instruction, request.prompt_tokens, form)

    room = context - len(built.ids)
    if room < grammar.GROUP:
        longest = "text" if len(request.text) > len(request.prompt_tokens) else "prompt_tokens"
        raise InvalidInput(longest, f"the prompt takes {len(built.ids)} of {context} positions; shorten clip or text")
    if request.max_tokens is not None and request.max_tokens > room:
        raise InvalidInput("max_tokens", f"{request.max_tokens} is more than the {room} positions the prompt leaves")
    wanted = request.max_tokens or budget.token_budget(
        request.mode, request.text, request.prompt_text, request.edit_info, len(request.prompt_tokens)
    )
    return Generation(
        prompt=built,
        sampling=request.sampling,
        max_tokens=min(wanted, room) // grammar.GROUP * grammar.GROUP,
        stop=tokenizer.eot,
        audio_offset=tokenizer.audio_offset,
        cancel_id=request.cancel_id,
    )
