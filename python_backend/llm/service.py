"""The language model as a Triton model: requests in, streams of tokens out."""

import json
import logging
import os
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from python_backend import threads
from python_backend.errors import InvalidInput
from python_backend.llm import packing, placement, weights
from python_backend.llm.engine import Engine
from python_backend.llm.kv_cache import slots_within
from python_backend.llm.prompt import Prompt, PromptForm
from python_backend.llm.reporter import EngineReporter
from python_backend.llm.request import Event, Failed, Generation, SpeechRequest, Tokens, Urgency, plan
from python_backend.llm.responder import Channel, Responder
from python_backend.llm.runner import Runner
from python_backend.llm.sampling import Sampling
from python_backend.llm.tokenizer import Tokenizer
from python_backend.serving import Inputs

log = logging.getLogger(__name__)


class LanguageModel:
    """Loads a checkpoint, runs its engine, and serves Triton requests from it.

    Args:
        name: the Triton model's name.
        directory: holds `config.json`, `*.safetensors` and `tokenizer.model`.
        parameters: the model's `parameters` in `config.pbtxt`.

    Raises:
        ValueError: the files or a parameter are unusable.
    """

    def __init__(self, name: str, directory: Path, parameters: dict[str, str]):
        device = placement.device(parameters["device"])
        dtype = placement.dtype(parameters["dtype"], device, weights.stored_dtype(directory))
        graphs = device.type == "cuda" and parameters["cuda_graphs"] == "true"
        model = packing.pack(weights.load(directory, device, dtype), fuse=graphs)
        threads.suit(model)
        self._tokenizer = Tokenizer(directory / "tokenizer.model")
        self._form = PromptForm(parameters["prompt_form"])
        self._context = min(int(parameters["context"]), model.config.max_seq_len)
        runner = Runner(
            model,
            slots_within(
                int(parameters["kv_bytes"]), int(parameters["slots"]), model.config, self._context, model.dtype
            ),
            self._context,
            self._tokenizer.audio_offset,
            self._tokenizer.eot,
            deterministic=parameters["deterministic"] == "true",
            graphs=graphs,
        )
        self._engine = Engine(
            runner,
            int(parameters["max_queue"]),
            int(parameters["prefill_chunk"]),
            int(parameters["prefix_bytes"]),
        )
        self._responder = Responder()
        self._warm_up()
        self._engine.on_broken = self._die
        self._reporter = EngineReporter(self._engine, name)

    def enqueue(self, request: Any) -> None:
        """Take one Triton request; its answers leave later."""
        channel = self._responder.open(request)
        try:
            inputs = Inputs(request)
            op = inputs.text("op")
            if op is not None:
                self._operate(op, inputs, channel)
                return
            generation = plan(parse(inputs), self._tokenizer, self._form, self._context)
            urgency = Urgency.of(json.loads(request.parameters() or "{}"))
            sequence = self._engine.submit(replace(generation, urgency=urgency), channel.emit)
            channel.watch(sequence.cancel)
        except Exception as error:
            channel.fail(error)

    def close(self) -> None:
        """Fail what still runs and stop the threads."""
        self._reporter.close()
        self._engine.close()
        self._responder.close()

    def _die(self) -> None:
        # Triton would go on showing this model as ready; the launcher notices a process that is gone, and starts anew.
        self._responder.close()
        log.error("the language model cannot go on: its process ends")
        os._exit(1)

    def _operate(self, op: str, inputs: Inputs, channel: Channel) -> None:
        if op == "cancel":
            cancel_id = inputs.text("cancel_id")
            if not cancel_id:
                raise InvalidInput("cancel_id", "missing, op cancel needs it")
            channel.finish("cancelled" if self._engine.cancel(cancel_id) else "unknown")
        elif op == "stats":
            channel.finish("stats", further={"stats": np.array([json.dumps(self._engine.stats())])})
        else:
            raise InvalidInput("op", f"unknown operation {op!r}, must be cancel or stats")

    def _warm_up(self) -> None:
        # The first passes allocate and tune; no caller should wait for them.
        tokenizer, done = self._tokenizer, threading.Event()
        events: list[Event] = []

        def emit(event: Event) -> None:
            events.append(event)
            if not isinstance(event, Tokens):
                done.set()

        prompt = Prompt(tuple(tokenizer.encode("warm up")), 0)
        self._engine.submit(Generation(prompt, Sampling(), 10, tokenizer.eot, tokenizer.audio_offset), emit)
        done.wait()
        if isinstance(events[-1], Failed):
            raise events[-1].error


def parse(inputs: Inputs) -> SpeechRequest:
    """Read the tensors of one request.

    Raises:
        InvalidInput: a tensor is missing or unusable.
    """
    mode = inputs.text("mode")
    if mode is None:
        raise InvalidInput("mode", "missing")
    dtypes = {"temperature": "f4", "top_k": "i4", "top_p": "f4", "repetition_aware": "?", "grammar": "?", "seed": "i8"}
    sampling = Sampling(
        **{field.name: inputs.scalar(field.name, dtypes[field.name], field.default) for field in fields(Sampling)}
    )
    return SpeechRequest(
        mode=mode,
        prompt_tokens=inputs.array("prompt_tokens", np.int32, (None,)).tolist(),
        text=inputs.text("text", "") or "",
        prompt_text=inputs.text("prompt_text", "") or "",
        edit_info=inputs.text("edit_info", "") or "",
        intensity=inputs.scalar("intensity", np.float32, 1.0),
        sampling=sampling,
        max_tokens=inputs.scalar("max_tokens", np.int32),
        cancel_id=inputs.text("cancel_id", "") or "",
    )
