import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from python_backend.voice.cache.opened import open_cache
from python_backend.voice.cache.settings import CacheSettings
from tests.servers import ROOT
from tests.voice.cache.entries import voice_of


def test_the_environment_wins_over_the_model_s_parameters(tmp_path):
    parameters = {"cache_dir": "/a", "cache_entries": "7"}
    settings = CacheSettings.read(parameters, {"VOICE_CACHE_DIR": str(tmp_path)})
    assert settings == CacheSettings(cache_dir=str(tmp_path), cache_entries=7)
    assert settings.folder == tmp_path


@pytest.mark.parametrize(("name", "value"), [("cache", "maybe"), ("cache_entries", "-1"), ("cache_memory_bytes", "1G")])
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        CacheSettings.read({name: value}, {})


def test_the_folder_is_the_user_s_cache_unless_chosen(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert CacheSettings().folder == Path("/x/step-audio-triton/voices")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert CacheSettings().folder == Path("/home/somebody/.cache/step-audio-triton/voices")


def test_each_setting_is_documented_and_a_parameter_of_the_model():
    page = (ROOT / "docs" / "architecture.md").read_text()
    config = (ROOT / "model_repository" / "voice_encoder" / "config.pbtxt").read_text()
    for setting in fields(CacheSettings):
        default = f"`{setting.default}` " if setting.default else ""
        assert f"| `{setting.name}` | `VOICE_{setting.name.upper()}` | {default}|" in page
        assert f'key: "{setting.name}" value: {{ string_value: "{setting.default}" }}' in config


def test_a_redis_that_cannot_be_asked_is_named_at_the_start(tmp_path, monkeypatch):
    def start(url):
        return open_cache(CacheSettings(cache_dir=str(tmp_path), cache_redis_url=url), tmp_path, None, lambda _: None)

    with pytest.raises(ValueError, match=r"^cache_redis_url: Redis URL must"):
        start("localhost:6379")
    monkeypatch.delitem(sys.modules, "python_backend.voice.cache.shared", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ValueError, match=r"^cache_redis_url: needs the Python package redis"):
        start("redis://localhost:6379")


def test_off_means_off_and_an_unusable_folder_leaves_memory(tmp_path):
    def encode(*_):
        return voice_of(1)

    lines = []
    audio = np.ones(100, np.float32)
    off = open_cache(CacheSettings(cache="off"), tmp_path, encode, lines.append)
    assert not [off.encode(audio, 16_000).hit for _ in range(2)][1]
    (tmp_path / "file").write_text("")
    settings = CacheSettings(cache_dir=str(tmp_path / "file" / "voices"))
    poor = open_cache(settings, tmp_path, encode, lines.append)
    assert [poor.encode(audio, 16_000).hit for _ in range(2)][1]
    assert list(poor.stats()["stores"]) == ["memory"]
    assert any("nothing will outlive this process" in line for line in lines)
