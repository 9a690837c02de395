import threading
from collections.abc import Iterator

import pytest

from export.chat import DEFAULT_CHECKPOINT
from python_backend.chat.engine import Engine, Progress
from python_backend.chat.prompt import Prompter
from python_backend.chat.request import Sampling
from python_backend.chat.text import TextStream

PARAMETERS = {
    "device": "cpu", "dtype": "float32", "slots": "4", "context": "512", "kv_bytes": "100000000", "max_queue": "60",
}  # fmt: skip


class Conversation:
    """One question under way."""

    def __init__(self, prompter: Prompter, stops: tuple[str, ...] = ()):
        self._stream = TextStream(prompter.backend, stops)
        self.pieces: list[str] = []
        self.tokens = 0
        self.reason: str | None = None
        self.error: Exception | None = None
        self.begun, self.done = threading.Event(), threading.Event()

    def emit(self, progress: Progress) -> None:
        self.tokens += len(progress.tokens)
        self.pieces.append(self._stream.feed(progress.tokens))
        self.begun.set()
        self.error = progress.error
        if progress.error is not None or progress.finish_reason is not None:
            self.pieces.append(self._stream.finish())
            self.reason = progress.finish_reason
            self.done.set()

    @property
    def text(self) -> str:
        assert self.done.wait(60)
        return "".join(self.pieces)


class Talk:
    """The tiny chat model that comes with the project, and its engine."""

    def __init__(self) -> None:
        self.prompter = Prompter(DEFAULT_CHECKPOINT)
        self.engine = Engine(DEFAULT_CHECKPOINT, PARAMETERS, lambda: None)
        self._number = 0

    def begin(self, question: str, sampling: Sampling | None = None, max_tokens: int = 100) -> Conversation:
        self._number += 1
        conversation = Conversation(self.prompter)
        prompt = self.prompter.encode([{"role": "user", "content": question}])
        chosen = sampling or self.engine.defaults
        self.engine.submit(str(self._number), prompt, chosen, max_tokens, conversation.emit)
        return conversation

    @property
    def last(self) -> str:
        return str(self._number)


@pytest.fixture(scope="package")
def talk() -> Iterator[Talk]:
    talk = Talk()
    yield talk
    talk.engine.close()
