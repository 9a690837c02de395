import numpy as np
import pytest

from python_backend.errors import InvalidInput
from python_backend.voice.cache.key import checked_key, content_key, fingerprint

CLIP = np.linspace(-0.5, 0.5, 1000, dtype=np.float32)


def test_everything_that_decides_the_voice_is_in_the_key():
    louder, longer = CLIP * np.float32(1.0001), np.append(CLIP, np.float32(0))
    keys = {
        content_key(CLIP, 16_000, 1.0, "a"),
        content_key(louder, 16_000, 1.0, "a"),
        content_key(longer, 16_000, 1.0, "a"),
        content_key(CLIP, 24_000, 1.0, "a"),
        content_key(CLIP, 16_000, 0.0, "a"),
        content_key(CLIP, 16_000, 1.0, "b"),
    }
    assert len(keys) == 6
    assert content_key(CLIP.copy(), 16_000, 1.0, "a") in keys
    assert all(checked_key(key) == key for key in keys)


@pytest.mark.parametrize("text", ["", "a" * 63, "../" * 21 + "a", "A" * 64, "a" * 64 + "\n"])
def test_only_keys_may_name_files(text):
    with pytest.raises(InvalidInput, match="voice_key"):
        checked_key(text)


def test_the_fingerprint_is_that_of_the_networks_files(tmp_path):
    def write(model, name, content):
        path = tmp_path / model / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    write("speaker_encoder", "model.onnx", "weights")
    write("speaker_encoder", "export.json", "times")
    write("flow", "model.onnx", "others")
    first = fingerprint(tmp_path)
    write("speaker_encoder", "export.json", "later times")
    write("flow", "model.onnx", "other weights")
    assert fingerprint(tmp_path) == first
    write("speaker_encoder", "model.onnx", "weightz")
    second = fingerprint(tmp_path)
    write("linguistic_tokenizer", "model.onnx.data", "more")
    assert len({first, second, fingerprint(tmp_path)}) == 3
