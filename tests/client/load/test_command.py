import json
from pathlib import Path

from typer.testing import CliRunner

from client.cli import app
from client.triton import STREAM
from tests.client.conftest import SECONDS, FakeTriton


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["load", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_a_sweep_over_grpc(triton: FakeTriton, tmp_path: Path) -> None:
    triton.loaded = (STREAM, "step_audio_editx_base")
    out = tmp_path / "times.json"
    code, said = run(
        "--closed", 2, "--open", 50, "--requests", 6, "--url", triton.url, "--out", out, "--max-tokens", 50
    )
    assert code == 0, said
    assert "closed 2" in said
    assert "open 50" in said
    assert "100% · 100% · 100%" in said
    times = json.loads(out.read_text())
    assert {name: len(outcomes) for name, outcomes in times.items()} == {"closed 2": 6, "open 50": 6}
    assert times["closed 2"][0]["audio"] == SECONDS
    assert {model for model, _ in triton.asked} == {STREAM}
    assert {asked["max_tokens"] for _, asked in triton.asked} == {50}
    texts = [asked["text"] for _, asked in triton.asked]
    assert len(texts) == 4 + 6 + 6, "one of each voice first, to warm up"


def test_a_server_that_is_not_there_is_reported(nobody: str) -> None:
    code, said = run("--closed", 2, "--requests", 3, "--url", nobody)
    assert code == 1
    assert "3 ServerUnavailable" in said
