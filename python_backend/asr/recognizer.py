"""Speech to text: prepare, cut, ask the network about all pieces at once, read its answers."""

import itertools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from python_backend.asr.detector import FILE as DETECTOR_FILE
from python_backend.asr.detector import RATE, WINDOW, SpeechDetector, cuts
from python_backend.asr.queries import AUTO, LANGUAGES, TEXT_NORMS
from python_backend.asr.segments import Segment, grouped
from python_backend.asr.words import TokenDecoder, Word
from python_backend.errors import InvalidInput
from python_backend.voice.resample import resample

NETWORK = "sense_voice"
TOKENS_FILE = "tokens.model"
DESCRIPTION_FILE = "description.json"
LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 1800
LONGEST_PIECE = 30 * RATE  # what SenseVoice was trained on
SPEECH = 0.2  # a piece in which no window is that likely to hold speech is not asked about
QUERIES = 4  # frames in front of the speech that answer the queries
# What SenseVoice makes of near silence; FunASR drops it as well.
HALLUCINATION = "The."

Waveform = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]
Call = Callable[[str, Mapping[str, NDArray[Any]], list[str]], Tensors]


@dataclass(frozen=True)
class Transcript:
    """What was said.

    Attributes:
        segments: in order.
        stage_ms: float32 [3]: pre-processing, the network, decoding.
    """

    segments: tuple[Segment, ...]
    stage_ms: NDArray[np.float32]

    @property
    def text(self) -> str:
        """All words."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def language(self) -> str:
        """The language spoken longest, empty where nothing was said."""
        spoken: dict[str, float] = {}
        for segment in self.segments:
            language = segment.tags.language
            spoken[language] = spoken.get(language, 0.0) + segment.end - segment.start
        return max(spoken, key=lambda language: spoken[language], default="")


class Recognizer:
    """Recognises speech with the network that is Triton model `sense_voice`.

    Args:
        directory: holds `tokens.model` and `silero_vad.onnx`.
        call: runs a network: its name, inputs by name with a batch of one, names of the outputs. It is called from
            several threads at once.
        threads: calls under way at most, over all requests.
    """

    def __init__(self, directory: Path, call: Call, threads: int = 16):
        self._decoder = TokenDecoder(directory / TOKENS_FILE)
        self._detector = SpeechDetector(directory / DETECTOR_FILE)
        self._call = call
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="network")

    def close(self) -> None:
        """Wait for the calls under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def cuts(self, audio: Waveform, sample_rate: int) -> NDArray[np.int32]:
        """Return where `recognise` would cut, in samples of `audio`: a caller may ask for the pieces one by one.

        Raises:
            InvalidInput: see `recognise`.
        """
        check(audio, sample_rate)
        if len(audio) <= LONGEST_PIECE // RATE * sample_rate:
            return np.zeros(0, dtype=np.int32)
        speech = resample(audio, sample_rate, RATE)
        places = cuts(self._detector.probabilities(speech), len(speech), LONGEST_PIECE)
        return np.array([place * sample_rate // RATE for place in places], dtype=np.int32)

    def recognise(
        self, audio: Waveform, sample_rate: int, language: str = "auto", written: bool = True, dither: float = 1.0
    ) -> Transcript:
        """Recognise speech of any length up to half an hour.

        Args:
            audio: float32 [N] in [-1, 1], mono, 0.1 s to 30 minutes.
            sample_rate: 8 000 to 192 000 Hz.
            language: `auto`, or one of `LANGUAGES`.
            written: whether numbers and punctuation are written out as in print.
            dither: 1 adds the network's fixed noise, 0 none, for parity.

        Raises:
            InvalidInput: an argument is out of range.
        """
        started = time.perf_counter()
        check(audio, sample_rate)
        if language != "auto" and language not in LANGUAGES:
            raise InvalidInput("language", f"must be auto, {', '.join(LANGUAGES)}, is {language!r}")
        queries = (LANGUAGES.get(language, AUTO), TEXT_NORMS["withitn" if written else "woitn"])
        speech = resample(audio, sample_rate, RATE)
        probabilities = self._detector.probabilities(speech)
        bounds = [0, *cuts(probabilities, len(speech), LONGEST_PIECE), len(speech)]
        prepared = time.perf_counter()
        pieces: list[tuple[int, Future[Tensors]]] = []
        for start, end in itertools.pairwise(bounds):
            if probabilities[start // WINDOW : -(-end // WINDOW)].max() >= SPEECH:
                pieces.append((start, self._submit(speech[start:end], queries, dither)))
        answers = [(start, answer.result()) for start, answer in pieces]
        answered = time.perf_counter()
        segments = [
            segment for start, answer in answers for segment in self._segments(answer, start / RATE, probabilities)
        ]
        times = np.diff([started, prepared, answered, time.perf_counter()])
        return Transcript(tuple(segments), (1e3 * times).astype(np.float32))

    def _submit(self, audio: Waveform, queries: tuple[int, int], dither: float) -> Future[Tensors]:
        """Run the network on `audio`, padded to whole seconds so that pieces of different lengths share a batch."""
        padded = np.zeros((1, -(-len(audio) // RATE) * RATE), dtype=np.float32)
        padded[0, : len(audio)] = audio
        inputs = {
            "audio": padded,
            "audio_length": np.array([[len(audio)]], dtype=np.int32),
            "language": np.array([[queries[0]]], dtype=np.int32),
            "text_norm": np.array([[queries[1]]], dtype=np.int32),
            "dither": np.array([[dither]], dtype=np.float32),
        }
        return self._pool.submit(self._call, NETWORK, inputs, ["tokens", "log_probs", "tokens_length"])

    def _segments(self, answer: Tensors, offset: float, probabilities: NDArray[np.float32]) -> list[Segment]:
        count = answer["tokens_length"][0, 0]
        tokens, log_probs = answer["tokens"][0, :count], answer["log_probs"][0, :count]
        words = self._decoder.words(tokens[QUERIES:], log_probs[QUERIES:])
        if "".join(word.text for word in words).strip() == HALLUCINATION:
            return []
        tags = self._decoder.tags(tokens.tolist())
        made = []
        for group in grouped([_moved(word, offset) for word in words]):
            start, end = group[0].start, group[-1].end
            heard = probabilities[int(start * RATE) // WINDOW : int(end * RATE) // WINDOW + 1]
            made.append(
                Segment(
                    text="".join(word.text for word in group),
                    start=start,
                    end=end,
                    words=tuple(group),
                    tags=tags,
                    log_prob=sum(word.log_prob for word in group) / sum(len(word.tokens) for word in group),
                    no_speech=float(1 - heard.mean()) if len(heard) else 1.0,
                )
            )
        return made


def check(audio: Waveform, rate: int) -> None:
    """Refuse audio that cannot be recognised.

    Raises:
        InvalidInput: the rate or the length is out of range.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InvalidInput("sample_rate", f"must be {LOWEST_RATE} to {HIGHEST_RATE} Hz, is {rate}")
    seconds = len(audio) / rate
    if seconds < SHORTEST_SECONDS:
        raise InvalidInput("audio", f"must last at least {SHORTEST_SECONDS} s, lasts {seconds:.3f} s")
    if seconds > LONGEST_SECONDS:
        raise InvalidInput("audio", f"must last at most {LONGEST_SECONDS} s, lasts {seconds:.0f} s; send it in parts")


def _moved(word: Word, seconds: float) -> Word:
    return replace(word, start=word.start + seconds, end=word.end + seconds)
