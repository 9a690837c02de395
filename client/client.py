"""Speech from Python, in plain blocking calls."""

import asyncio
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile

from client.errors import InvalidInput
from client.speech import Clip, SpeechJob, SpeechResult, run_passes, stream_passes
from client.triton import DEFAULT_URL, TritonSpeech


def read_clip(path: str | Path) -> Clip:
    """Read a recording (WAV, FLAC, MP3, Ogg …); channels are averaged.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise InvalidInput("audio", f"{path} cannot be read ({error})") from error
    return Clip(samples.mean(axis=1, dtype=np.float32), rate)


class StepAudioClient:
    """Clones voices and edits recordings on a Triton server.

        with StepAudioClient() as client:
            job = SpeechJob("clone", read_clip("me.wav"), prompt_text="what I say in it", text="Hello!")
            speech = client.synthesize(job).clip
            soundfile.write("hello.wav", speech.waveform, speech.sample_rate)
            for part in client.stream(job):
                player.play(part.clip.waveform)

    Ctrl-C during a call withdraws it from the server.

    Args:
        url: host and port of Triton's gRPC end point.
    """

    def __init__(self, url: str = DEFAULT_URL):
        self._runner = asyncio.Runner()
        self._triton = TritonSpeech(url)

    def synthesize(self, job: SpeechJob, passes: int = 1) -> SpeechResult:
        """Run a clone, or an edit `passes` times over.

        Raises:
            SpeechError: the server is not there, refused, or failed.
        """
        return self._runner.run(run_passes(self._triton.synthesize, job, passes))

    def stream(self, job: SpeechJob, passes: int = 1) -> Generator[SpeechResult, None, None]:
        """Do the same and give the speech in parts, as it is made; the last one counts and times all of it.

        Leaving the loop, or closing the generator, withdraws the rest from the server.

        Raises:
            SpeechError: the server is not there, refused, or failed, perhaps after some parts.
        """
        parts = stream_passes(self._triton.synthesize, self._triton.stream, job, passes)

        async def following() -> SpeechResult | None:
            return await anext(parts, None)

        try:
            while (part := self._runner.run(following())) is not None:
                yield part
        finally:
            self._runner.run(parts.aclose())

    def variants(self) -> tuple[str, ...]:
        """Return the weights that can serve now, of `base`, `bnb` and `awq`.

        Raises:
            ServerUnavailable: no server answers.
        """
        return self._runner.run(self._triton.variants())

    def close(self) -> None:
        """Deliver withdrawals under way and let go of the connection."""
        self._runner.run(self._triton.close())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
