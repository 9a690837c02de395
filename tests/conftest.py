"""The one running server that every test marked `server` may share."""

import hypothesis
import pytest

from tests.servers import start

# A busy machine is no fault of the code under test.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """`python -m server` on free ports, with the models in model_repository."""
    words = tmp_path_factory.mktemp("server") / "first-words.wav"
    running = start("--first-words", str(words))
    yield running
    running.stop()
    print("\n".join(line for line in running.log if "gateway.access" not in line))  # shown beside a failure
