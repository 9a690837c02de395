"""A small corpus for all tests of training."""

from pathlib import Path

import pytest

from tests.training import small_corpus
from training.dataset import Corpus


@pytest.fixture(scope="session")
def corpus_and_work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Path]:
    """The corpus, and the folder of its mels and tokens."""
    return small_corpus.write(tmp_path_factory.mktemp("training"))
