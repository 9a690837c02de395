"""Make the built-in voices' recordings with espeak-ng (1.51 or newer) and soxr: `python gateway/assets/make_voices.py`.

The sentences live in `voices/voices.json`, so transcript and recording cannot drift apart. The same espeak-ng gives the
same bytes every time. Of its Mandarin voices only `cmn-latn-pinyin` reads characters as Mandarin; `cmn` reads many of
them as English words.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

VOICES = Path(__file__).parent / "voices"
SAMPLE_RATE = 24_000
SILENCE = 0.002  # espeak-ng ends every reading with up to half a second below this
PEAK = 0.6  # the level Step-Audio-EditX limits its prompts to

# espeak-ng voice (language + variant), words per minute, pitch 0 … 99, gap between words in 10 ms
SPEAKERS = {
    "fear_female": ("cmn-latn-pinyin+f2", 200, 72, 0),
    "happy_en": ("en-us+f3", 165, 65, 0),
    "whisper_cn": ("cmn-latn-pinyin+whisperf", 185, 50, 0),
    "story_teller": ("cmn-latn-pinyin+f4", 205, 40, 0),
}


def speak(text: str, voice: str, words_per_minute: int, pitch: int, gap: int) -> NDArray[np.float32]:
    """Return espeak-ng's reading of `text`: float32 [N] at 24 kHz, peak at `PEAK`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["espeak-ng", "-v", voice, "-s", words_per_minute, "-p", pitch, "-g", gap, "-w", path, "--", text]
        subprocess.run([str(part) for part in command], check=True)
        waveform, rate = soundfile.read(path, dtype="float32")
    loud = np.flatnonzero(np.abs(waveform) > SILENCE)
    waveform = soxr.resample(waveform[: loud[-1] + 1], rate, SAMPLE_RATE, quality="VHQ")
    leveled: NDArray[np.float32] = waveform * (PEAK / np.abs(waveform).max())
    return leveled


def main() -> None:
    """Write one 16-bit WAV per voice of `voices.json`."""
    for voice in json.loads((VOICES / "voices.json").read_text(encoding="utf-8")):
        waveform = speak(voice["prompt_text"], *SPEAKERS[voice["id"]])
        soundfile.write(VOICES / f"{voice['id']}.wav", waveform, SAMPLE_RATE, subtype="PCM_16")
        print(f"{voice['id']}: {len(waveform) / SAMPLE_RATE:.2f} s")


if __name__ == "__main__":
    main()
