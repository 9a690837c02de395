"""Texts of many requests through the network together."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from python_backend.embedding.network import TokenizedText
from python_backend.errors import Unavailable

Vector = NDArray[np.float32]
_Item = tuple[TokenizedText, "Future[Vector]"]


class Batcher:
    """One thread that always runs the texts that came while it ran the ones before; nobody waits for a full batch.

    Texts of about the same length go together, because short ones are padded to the longest of their batch.

    Args:
        run: turns texts of one pooling into vectors [n, H].
        texts: most texts in one run.
        tokens: most tokens in one run, padding included; a longer text runs alone.
        max_queue: texts that may wait.
    """

    def __init__(self, run: Callable[[list[TokenizedText]], Vector], texts: int, tokens: int, max_queue: int):
        self._run = run
        self._texts = texts
        self._tokens = tokens
        self._waiting: queue.Queue[_Item | None] = queue.Queue()
        self._max_queue = max_queue
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def embed(self, texts: list[TokenizedText]) -> Vector:
        """Return the vectors of `texts`, float32 [n, H]; waits for them.

        Raises:
            Unavailable: more texts wait than are accepted.
        """
        waiting = self._waiting.qsize()
        if waiting + len(texts) > self._max_queue:
            raise Unavailable(f"queue full: {waiting} texts wait to be embedded")
        futures: list[Future[Vector]] = [Future() for _ in texts]
        for item in zip(texts, futures, strict=True):
            self._waiting.put(item)
        return np.stack([future.result() for future in futures])

    def close(self) -> None:
        """Finish what waits and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            for batch in self._batches([first, *self._others()]):
                self._answer(batch)

    def _others(self) -> Iterator[_Item]:
        """Give what waits behind the first, as much as one round takes."""
        for _ in range(self._texts - 1):
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return
            if item is None:
                self._waiting.put(None)  # to be met again once these are done
                return
            yield item

    def _batches(self, items: list[_Item]) -> Iterator[list[_Item]]:
        """Cut `items` into runs of one pooling and similar lengths."""
        batch: list[_Item] = []
        for item in sorted(items, key=lambda item: (item[0].pooling, len(item[0].ids))):
            padded = len(item[0].ids) * (len(batch) + 1)  # sorted, so the newest is the longest
            if batch and (padded > self._tokens or item[0].pooling != batch[0][0].pooling):
                yield batch
                batch = []
            batch.append(item)
        yield batch

    def _answer(self, batch: list[_Item]) -> None:
        try:
            vectors = self._run([text for text, _ in batch])
        except Exception as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), vector in zip(batch, vectors, strict=True):
            future.set_result(vector)
