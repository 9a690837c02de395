"""The whole pipeline of a checkpoint in this process: text to speech, whole or in chunks, and speech to text."""

import queue
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.direct import Machine
from export.build import NETWORKS, build
from python_backend.asr.recognizer import Recognizer
from python_backend.llm.request import Failed, Finished, SpeechRequest, Tokens, plan
from python_backend.noise import gaussian
from python_backend.token2wav.streaming.chunks import Chunker
from python_backend.token2wav.streaming.vocoder import VocoderStream
from python_backend.token2wav.token2mel import MelRequest
from python_backend.voice.encoder import Voice, VoiceEncoder
from python_backend.voice.mel import MEL_RATE as RATE

ROOT = Path(__file__).resolve().parent.parent
ENCODERS = ("linguistic_tokenizer", "semantic_tokenizer", "speaker_encoder")
STEPS = 10
SEED = 0

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Speech:
    """What was made.

    Attributes:
        tokens: int32 [5g].
        ended: by itself, before its budget.
        waveform: float32 [N] at 24 kHz.
    """

    tokens: NDArray[np.int32]
    ended: bool
    waveform: Waveform


def repository(checkpoint: Path, folder: Path) -> Path:
    """Export `checkpoint` into a model repository at `folder`, which is made; return it."""
    for network in NETWORKS:
        if network.variant == "base":
            (folder / network.model).mkdir(parents=True, exist_ok=True)
            config = ROOT / "model_repository" / network.model / "config.pbtxt"
            shutil.copyfile(config, folder / network.model / "config.pbtxt")
    build(checkpoint, folder, [], False, Console(quiet=True))
    return folder


class Demo:
    """All models of a repository.

    Args:
        models: of `repository`.
        threads: of each network.
    """

    def __init__(self, models: Path, threads: int):
        self._machine = Machine(models, threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._sessions = {
            name: onnxruntime.InferenceSession(
                models / name / "1" / "model.onnx", options, providers=["CPUExecutionProvider"]
            )
            for name in (*ENCODERS, "sense_voice")
        }
        self._encoder = VoiceEncoder(self._call, threads=1)
        self._recognizer = Recognizer(models / "speech_recognizer" / "1", self._call, threads=1)

    def close(self) -> None:
        """Stop the engines."""
        self._encoder.close()
        self._recognizer.close()
        self._machine.close()

    def hear(self, waveform: Waveform, rate: int = RATE) -> Voice:
        """Encode a clip."""
        return self._encoder.encode(waveform, rate)

    def transcribe(self, waveform: Waveform, rate: int = RATE) -> str:
        """Return the words of a waveform, in their spoken form."""
        return self._recognizer.recognise(waveform, rate, written=False).text

    def speak(self, voice: Voice, request: SpeechRequest) -> Speech:
        """Answer a request whole."""
        machine, tokens, ended = self._machine, [], False
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        machine.llm.submit(plan(request, machine.tokenizer, machine.form, machine.context), events.put)
        while not isinstance(event := events.get(), Finished):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Tokens):
                tokens += event.tokens
        ended = event.reason == "stop"
        made = np.array(tokens, dtype=np.int32)
        return Speech(made, ended, self.render(voice, made))

    def render(self, voice: Voice, tokens: NDArray[np.int32]) -> Waveform:
        """Turn tokens into a waveform, whole."""
        request = MelRequest(tokens, voice.prompt_tokens, voice.prompt_mel, voice.speaker_embedding, SEED, STEPS)
        mel = self._machine.token2wav.whole.generate(request).mel
        noise = gaussian(SEED, "hift", 0, mel.shape[1] * 480)
        lengths = np.array([mel.shape[1]], dtype=np.int32), np.zeros(1, dtype=np.int32)
        waveform, _ = self._machine.token2wav.vocoder(mel, lengths[0], noise, np.zeros(1, np.float32), lengths[1])
        return waveform

    def stream(self, voice: Voice, tokens: NDArray[np.int32]) -> tuple[Waveform, list[int]]:
        """Turn tokens into a waveform chunk by chunk; return it and the samples where chunks meet."""
        flow = self._machine.token2wav.streaming
        guidance = self._machine.token2wav.config.guidance
        prompt = flow.prepare(voice.prompt_tokens, voice.prompt_mel, voice.speaker_embedding, STEPS, guidance)
        stream, vocoder = flow.open(prompt, SEED), VocoderStream(self._machine.token2wav.vocoder, SEED)
        parts = [vocoder.push(flow.push(stream, chunk), chunk.last) for chunk in Chunker().push(tokens, last=True)]
        return np.concatenate(parts), np.cumsum([len(part) for part in parts])[:-1].tolist()

    def _call(self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: list[str]) -> dict[str, NDArray[Any]]:
        return dict(zip(outputs, self._sessions[model].run(outputs, dict(inputs)), strict=True))
