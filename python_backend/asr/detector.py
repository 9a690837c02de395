"""Where somebody speaks, and where long audio may be cut: Silero's voice activity detector.

The network is the one in the `silero-vad` package (MIT licence), in its form for whole sequences.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FILE = "silero_vad.onnx"
RATE = 16_000
WINDOW, CONTEXT = 512, 64  # samples the network takes at a time, and how many of those before it sees again
STATE = (1, 1, 128)
PAUSE_WINDOWS = 11  # a cut wants about 0.35 s of quiet around it
SHORTEST_PIECE = 10 * RATE  # no cut sooner than this after the last one


class SpeechDetector:
    """The network in this process: it takes about a millisecond per second of audio on one core.

    Args:
        path: the ONNX file.
    """

    def __init__(self, path: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def probabilities(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how likely each 512 samples of `audio` float32 [N], 16 kHz, hold speech: float32 [ceil(N / 512)]."""
        count = -(-len(audio) // WINDOW)
        padded = np.zeros(CONTEXT + count * WINDOW, dtype=np.float32)
        padded[CONTEXT : CONTEXT + len(audio)] = audio
        windows = np.ascontiguousarray(sliding_window_view(padded, CONTEXT + WINDOW)[::WINDOW])
        silent = np.zeros(STATE, dtype=np.float32)
        found: NDArray[np.float32] = self._session.run(["speech_probs"], {"input": windows, "h": silent, "c": silent})[
            0
        ]
        return found


def cuts(probabilities: NDArray[np.float32], samples: int, longest: int) -> list[int]:
    """Return where to cut audio of `samples` so that no piece is longer than `longest`, at its clearest pauses.

    Args:
        probabilities: of each window of 512 samples.
        samples: length of the audio.
        longest: samples a piece may have, more than 10 s.
    """
    places: list[int] = []
    quiet = np.convolve(probabilities, np.full(PAUSE_WINDOWS, 1 / PAUSE_WINDOWS), mode="same")
    start = 0
    while samples - start > longest:
        first, last = -(-(start + SHORTEST_PIECE) // WINDOW), (start + longest) // WINDOW
        # Of equally clear pauses the last: the fewest pieces.
        start = (last - int(np.argmin(quiet[last:first:-1]))) * WINDOW
        places.append(start)
    return places
