import io
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import grpc
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from client.cli import app
from client.output import wav_header
from client.triton import STREAM
from tests.client.conftest import PARTS, SECONDS, TONE, FakeTriton

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.full((24_000, 2), [0.5, -0.1]), 24_000)
    return path


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, " ".join(done.output.split())


def test_speak_writes_a_wav(triton: FakeTriton, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    code, said = run("speak", "hello", "--voice", "happy_en", "-o", out, "--url", triton.url, "--seed", 9)
    assert code == 0, said
    info = soundfile.info(out)
    assert (info.samplerate, info.channels, info.subtype, info.duration) == (24_000, 1, "PCM_16", SECONDS)
    assert "0.25 s of speech" in said
    asked = triton.asked[0][1]
    assert (asked["mode"], asked["text"], asked["seed"]) == ("clone", "hello", 9)
    assert asked["prompt_text"].startswith("Good morning!")


def test_speak_takes_an_own_clip(triton: FakeTriton, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.flac"
    code, said = run("speak", "hi", "--clip", recording, "--transcript", "words", "-o", out, "--url", triton.url)
    assert code == 0, said
    asked = triton.asked[0][1]
    assert asked["prompt_text"] == "words"
    np.testing.assert_allclose(asked["audio"], 0.2, atol=1e-4)
    assert soundfile.info(out).format == "FLAC"


def test_edit_sends_mode_tag_and_strength(triton: FakeTriton, recording: Path, tmp_path: Path) -> None:
    options = ["--mode", "emotion", "--tag", "happy", "--transcript", "words", "--intensity", 2, "--passes", 2]
    code, said = run("edit", recording, *options, "-o", tmp_path / "out.wav", "--url", triton.url)
    assert code == 0, said
    assert [asked["edit_info"] for _, asked in triton.asked] == ["happy", "happy"]
    assert triton.asked[0][1]["intensity"] == 2.0


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_speech_streams_to_a_file(triton: FakeTriton, tmp_path: Path, ending: str) -> None:
    triton.loaded = (STREAM, "step_audio_editx_base")
    triton.hold = threading.Event()
    out = tmp_path / f"out.{ending}"
    speaking = threading.Thread(target=run, args=("speak", "hi", "--stream", "-o", out, "--url", triton.url))
    speaking.start()
    assert triton.arrived.wait(10)
    deadline = time.monotonic() + 5
    while ending == "wav" and (not out.exists() or out.stat().st_size < 44 + 2 * len(TONE) / PARTS):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    triton.hold.set()
    speaking.join(10)
    heard, rate = soundfile.read(out, dtype="float32")
    np.testing.assert_allclose(heard, TONE, atol=1e-4)
    assert rate == 24_000


@pytest.mark.parametrize("options", [["--stream"], ["--stream", "--raw"], [], ["--raw"]])
def test_speech_goes_to_a_pipe(triton: FakeTriton, options: list[str]) -> None:
    triton.loaded = (STREAM, "step_audio_editx_base")
    command = [sys.executable, "-m", "client", "speak", "hi", "--url", triton.url, "-o", "-", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    samples = done.stdout if "--raw" in options else done.stdout.removeprefix(wav_header(24_000))
    np.testing.assert_allclose(np.frombuffer(samples, "<i2") / 32767, TONE, atol=1e-4)
    assert (b"first audio after 0." in done.stderr) == ("--stream" in options)
    if "--raw" not in options:
        with av.open(io.BytesIO(done.stdout)) as file:
            assert sum(frame.samples for frame in file.decode(audio=0)) == len(TONE)


def test_a_pipe_that_closes_withdraws_the_request(triton: FakeTriton) -> None:
    triton.loaded = (STREAM, "step_audio_editx_base")
    triton.hold = threading.Event()
    command = [sys.executable, "-m", "client", "speak", "hi", "--stream", "--url", triton.url, "-o", "-"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(44) == wav_header(24_000)
        process.stdout.close()
        triton.hold.set()
        said = process.stderr.read().decode()
        assert process.wait(10) == 1
    assert triton.stream_ended.wait(5)
    assert "has left" in said
    assert "Traceback" not in said


def test_an_edit_streams_its_last_pass(triton: FakeTriton, recording: Path, tmp_path: Path) -> None:
    triton.loaded = (STREAM, "step_audio_editx_base")
    options = ["--mode", "denoise", "--passes", 2, "--stream", "-o", tmp_path / "out.wav"]
    code, said = run("edit", recording, *options, "--url", triton.url)
    assert code == 0, said
    assert [model for model, _ in triton.asked] == ["step_audio_editx_base", STREAM]
    assert "first audio after" in said


def test_voices_lists_all_four() -> None:
    code, said = run("voices")
    assert code == 0
    assert all(name in said for name in ("fear_female", "happy_en", "whisper_cn", "story_teller"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["speak", "hi", "--voice", "nobody"], "happy_en"),
        (["speak", "hi", "--clip", "CLIP"], "--transcript"),
        (["speak", "hi", "--clip", "nowhere.wav", "--transcript", "x"], "does not exist"),
        (["edit", "CLIP", "--mode", "emotion", "--transcript", "x"], "--tag"),
        (["edit", "CLIP", "--mode", "style", "--tag", "whisper"], "--transcript"),
        (["edit", "CLIP", "--mode", "paralinguistic", "--transcript", "x"], "--text"),
        (["edit", __file__, "--mode", "vad"], "cannot be read"),
    ],
)
def test_a_mistake_is_explained(triton: FakeTriton, recording: Path, arguments: list[str], words: str) -> None:
    code, said = run(*[recording if argument == "CLIP" else argument for argument in arguments], "--url", triton.url)
    assert code in (1, 2)
    assert words in said
    assert "Traceback" not in said
    assert not triton.asked


def test_no_server_tells_what_to_do(nobody: str) -> None:
    code, said = run("speak", "hi", "--url", nobody)
    assert code == 1
    assert f"no speech server serves at {nobody}" in said
    assert "step-audio serve" in said


def test_a_refusal_of_the_model_is_shown(triton: FakeTriton) -> None:
    triton.failure = (grpc.StatusCode.INVALID_ARGUMENT, "in ensemble 'e', text: must not hold <|EOT|>")
    code, said = run("speak", "hi", "--url", triton.url)
    assert (code, "text: must not hold <|EOT|>" in said) == (1, True)


def test_ctrl_c_withdraws_the_request(triton: FakeTriton, tmp_path: Path) -> None:
    triton.hold = threading.Event()
    command = [sys.executable, "-m", "client", "speak", "hi", "--url", triton.url, "-o", str(tmp_path / "out.wav")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert triton.arrived.wait(20)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert triton.withdrawn.is_set()
    assert "Traceback" not in said
    assert not (tmp_path / "out.wav").exists()


def test_the_umbrella_command_reaches_the_other_tools(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "client", "export", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "demo" in done.stdout) == (0, True)


def test_the_command_line_needs_no_web_framework() -> None:
    check = "import sys, client.cli; print(sorted({'fastapi', 'pydantic', 'torch', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
