"""A clip to everything that identifies its voice, with the three networks working at the same time."""

import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from python_backend.errors import InvalidInput
from python_backend.voice import clip
from python_backend.voice.clip import TOKEN_RATE, Waveform
from python_backend.voice.mel import MEL_RATE, log_mel, round_to_bfloat16
from python_backend.voice.resample import resample
from python_backend.voice.tokens import interleave

PIECE = 30 * TOKEN_RATE  # the most the semantic tokenizer takes at once
SHORTEST_PIECE = 480  # what is left of a clip below this gives no code

Tensors = dict[str, NDArray[Any]]
Call = Callable[[str, Mapping[str, NDArray[Any]], list[str]], Tensors]


@dataclass(frozen=True)
class Voice:
    """What the language model and the flow need to know of a voice clip.

    Attributes:
        prompt_tokens: int32 [5g], see `tokens.interleave`.
        prompt_mel: float32 [80, T], 24 kHz log-mel of the whole clip, rounded through bfloat16 as the original does.
        speaker_embedding: float32 [192].
        stage_ms: float32 [4]: pre-processing, linguistic, semantic and speaker network; the last three overlap.
        clip_md5: names the clip, 32 hexadecimal digits, of the pre-processed 16 kHz samples and that rate: the same
            sound in another container has the same.
    """

    prompt_tokens: NDArray[np.int32]
    prompt_mel: NDArray[np.float32]
    speaker_embedding: NDArray[np.float32]
    stage_ms: NDArray[np.float32]
    clip_md5: str


class VoiceEncoder:
    """Prepares clips as Step-Audio-EditX does and asks three networks about them.

    Args:
        call: runs a network: its name, inputs by name with a batch of one, names of the outputs. It is called from
            several threads at once.
        threads: calls under way at most, over all clips.
    """

    def __init__(self, call: Call, threads: int = 16):
        self._call = call
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="network")

    def close(self) -> None:
        """Wait for the calls under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def encode(self, audio: Waveform, sample_rate: int, dither: float = 1.0) -> Voice:
        """Encode one clip. A silent one is encoded like any other.

        Args:
            audio: float32 [N] in [-1, 1], mono, 0.1 to 60 s.
            sample_rate: 16 000 to 192 000 Hz.
            dither: 1 adds the linguistic tokenizer's fixed noise, 0 none, for parity.

        Raises:
            InvalidInput: the clip or `dither` cannot be used.
        """
        started = time.perf_counter()
        clip.check(audio, sample_rate)
        if not 0.0 <= dither <= 1.0:
            raise InvalidInput("dither", f"must be between 0 and 1, is {dither}")
        limited = clip.limit_peak(audio)
        speech = resample(limited, sample_rate, TOKEN_RATE)
        speaker = self._submit("speaker_encoder", speech, ["speaker_embedding"])
        trimmed = clip.trim(clip.normalise(speech))
        amplitude = np.array([[dither]], dtype=np.float32)
        linguistic = self._submit("linguistic_tokenizer", trimmed, ["codes", "codes_length"], dither=amplitude)
        pieces = [trimmed[start : start + PIECE] for start in range(0, len(trimmed), PIECE)]
        semantic = [
            self._submit("semantic_tokenizer", piece, ["codes", "codes_length"])
            for piece in pieces
            if len(piece) >= SHORTEST_PIECE
        ]
        mel = round_to_bfloat16(log_mel(resample(limited, sample_rate, MEL_RATE)))
        prepared_ms = 1e3 * (time.perf_counter() - started)

        linguistic_codes, linguistic_ms = _codes(linguistic)
        semantic_codes, semantic_ms = zip(*map(_codes, semantic), strict=True)
        speaker_outputs, speaker_ms = speaker.result()
        embedding = speaker_outputs["speaker_embedding"][0]
        if not np.isfinite(embedding).all():
            raise InvalidInput("audio", "gives no finite speaker embedding; does it hold speech?")
        return Voice(
            prompt_tokens=interleave(linguistic_codes, np.concatenate(semantic_codes)),
            prompt_mel=mel,
            speaker_embedding=embedding,
            stage_ms=np.array([prepared_ms, linguistic_ms, max(semantic_ms), speaker_ms], dtype=np.float32),
            clip_md5=hashlib.md5(trimmed.tobytes() + b"%d" % TOKEN_RATE, usedforsecurity=False).hexdigest(),
        )

    def _submit(
        self, model: str, audio: Waveform, outputs: list[str], **more: NDArray[Any]
    ) -> Future[tuple[Tensors, float]]:
        """Run `model` on `audio`, padded to whole seconds so that clips of different lengths share a batch."""
        padded = np.zeros((1, -(-len(audio) // TOKEN_RATE) * TOKEN_RATE), dtype=np.float32)
        padded[0, : len(audio)] = audio
        inputs = {"audio": padded, "audio_length": np.array([[len(audio)]], dtype=np.int32), **more}

        def timed() -> tuple[Tensors, float]:
            started = time.perf_counter()
            answer = self._call(model, inputs, outputs)
            return answer, 1e3 * (time.perf_counter() - started)

        return self._pool.submit(timed)


def _codes(answer: Future[tuple[Tensors, float]]) -> tuple[NDArray[np.int32], float]:
    tensors, milliseconds = answer.result()
    return tensors["codes"][0, : tensors["codes_length"][0, 0]], milliseconds
