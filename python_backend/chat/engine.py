"""transformers' continuous batching behind a small interface: tokens in, tokens out as they come."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.utils import logging as transformers_logging

from python_backend.chat.request import Sampling
from python_backend.errors import RequestError, Unavailable
from python_backend.llm import placement

log = logging.getLogger(__name__)

PAGE = 32
PREFILL_TOKENS = 256
POLL_SECONDS = 0.05
STOP_SECONDS = 5.0
# Below this, logits divided by the temperature could leave float32's range; the likeliest token wins anyway.
COLDEST = 1e-3


@dataclass(frozen=True)
class Progress:
    """What came of a request since the last call.

    Attributes:
        tokens: new ones, without the one that ends an answer.
        finish_reason: `stop` or `length` once the answer is whole.
        error: why it failed.
    """

    tokens: list[int]
    finish_reason: str | None = None
    error: Exception | None = None


Emit = Callable[[Progress], None]


@dataclass
class _Live:
    emit: Emit
    seen: int = 0


class Engine:
    """Loads a checkpoint and generates for many requests at once; they join and leave at every step.

    Every `emit` is called from one thread. Generation that fails as a whole fails its requests and starts anew.

    Args:
        directory: `config.json` and `*.safetensors` of a causal language model that transformers knows.
        parameters: `device`, `dtype`, `slots`, `context`, `kv_bytes` and `max_queue` of the Triton model.
        on_poll: called about every 50 ms from the same thread.

    Raises:
        ValueError: the checkpoint or a parameter is unusable.
    """

    def __init__(self, directory: Path, parameters: dict[str, str], on_poll: Callable[[], None]):
        transformers_logging.set_verbosity_error()  # its warnings quote what people wrote
        transformers_logging.disable_progress_bar()
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        device = placement.device(parameters["device"])
        dtype = placement.dtype(parameters["dtype"], device, config.dtype or torch.float32)
        self._model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).to(device)
        slots, wanted = int(parameters["slots"]), int(parameters["context"])
        self._pages = _pages(config, dtype, slots, wanted, int(parameters["kv_bytes"]))
        self.context = min(wanted, int(config.max_position_embeddings), self._pages * PAGE)
        self._most = slots + int(parameters["max_queue"])
        self._vocabulary = int(config.vocab_size)
        given = self._model.generation_config
        # Sampling is off in checkpoints that do not ask for it.
        self.defaults = Sampling(
            float(given.temperature or 1.0) if given.do_sample else 0.0,
            float(given.top_p or 1.0),
            int(given.top_k or 0),
        )
        ends = given.eos_token_id if given.eos_token_id is not None else config.eos_token_id
        self._ends = [ends] if isinstance(ends, int) else list(ends or [])
        self._on_poll = on_poll
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}
        self._closing = False
        self._manager = self._start()
        gc.freeze()  # what is loaded by now stays: looking through it again and again would delay steps, and the end
        self._reader = threading.Thread(target=self._read, name="chat reader", daemon=True)
        self._reader.start()

    def submit(self, name: str, prompt: list[int], sampling: Sampling, max_tokens: int, emit: Emit) -> None:
        """Start generating.

        Args:
            name: tells this request from all others.
            prompt: its tokens, fewer than `context`.
            sampling: how tokens are drawn.
            max_tokens: bound on the answer; it ends where the context does in any case.
            emit: told what comes of it.

        Raises:
            Unavailable: as many requests are under way or waiting as are accepted, or generation is starting anew.
        """
        with self._lock:
            if self._closing or len(self._live) >= self._most:
                raise Unavailable(f"queue full: {len(self._live)} conversations are under way or waiting")
            self._live[name] = _Live(emit)
            greedy = sampling.temperature < COLDEST
            accepted = self._manager.add_request(
                prompt,
                request_id=name,
                max_new_tokens=min(max_tokens, self.context - len(prompt)),
                streaming=True,
                eos_token_id=self._ends or -1,
                temperature=1.0 if greedy else float(sampling.temperature),
                top_p=1.0 if greedy else float(sampling.top_p),
                top_k=1 if greedy else min(sampling.top_k or self._vocabulary, self._vocabulary),
            )
            if accepted is None:
                del self._live[name]
                raise Unavailable("the chat model broke and is starting anew")

    def cancel(self, name: str) -> None:
        """Stop generating for `name` and forget it; an unknown name is fine."""
        with self._lock:
            if self._live.pop(name, None) is not None:
                self._manager.cancel_request(name)

    @property
    def under_way(self) -> int:
        """Requests that are generated for or wait."""
        return len(self._live)

    def close(self) -> None:
        """Fail what still runs and stop."""
        self._closing = True
        self._reader.join()
        self._manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)
        self._fail_all(Unavailable("the chat model is being unloaded"))

    def _start(self) -> Any:
        generation = GenerationConfig(
            do_sample=True,
            # What is left at its neutral value here could not be chosen by a request.
            temperature=0.7,
            top_p=0.9,
            top_k=min(50, self._vocabulary),
            eos_token_id=self._ends or -1,
            pad_token_id=0,
            max_new_tokens=self.context,
        )
        batching = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=self._pages,
            max_batch_tokens=min(PREFILL_TOKENS, self._pages * PAGE),
            max_requests_per_batch=self._most,
            per_request_processors=True,
        )
        manager = self._model.init_continuous_batching(generation, batching)
        manager.start()
        return manager

    def _read(self) -> None:
        next_look = 0.0
        while not self._closing:
            output = self._manager.get_result(timeout=POLL_SECONDS)
            if output is not None:
                self._deliver(output)
            elif not self._manager.is_running():
                self._restart()
            if time.monotonic() >= next_look:
                self._on_poll()
                next_look = time.monotonic() + POLL_SECONDS

    def _restart(self) -> None:
        log.error("generation stopped: %s; starting it anew", self._manager.background_thread_status.fatal_error)
        self._fail_all(RequestError("the chat model broke while it worked"))
        with self._lock:
            self._manager.stop(block=True, timeout=STOP_SECONDS)
            self._manager = self._start()

    def _fail_all(self, error: Exception) -> None:
        with self._lock:
            failed = list(self._live.values())
            self._live.clear()
        for live in failed:
            live.emit(Progress([], error=error))

    def _deliver(self, output: Any) -> None:
        live = self._live.get(output.request_id)
        if live is None:  # it was cancelled meanwhile
            return
        tokens = output.generated_tokens[live.seen :]
        live.seen += len(tokens)
        if not output.is_finished():
            live.emit(Progress(tokens))
            return
        with self._lock:
            self._live.pop(output.request_id, None)
        if output.error is not None:
            live.emit(Progress([], error=RequestError(f"the chat model failed: {output.error}")))
        elif tokens and tokens[-1] in self._ends:
            live.emit(Progress(tokens[:-1], "stop"))
        else:
            live.emit(Progress(tokens, "length"))


def _pages(config: Any, dtype: torch.dtype, slots: int, context: int, kv_bytes: int) -> int:
    """Return how many pages the key-value cache has: whole contexts for `slots` requests, within `kv_bytes`."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    token_bytes = 2 * text.num_hidden_layers * heads * size * dtype.itemsize
    longest = min(context, int(config.max_position_embeddings))
    return max(2, min(slots * longest, kv_bytes // token_bytes) // PAGE)
