"""Decode steps as CUDA graphs: one launch in place of some three hundred, each of which the host would pay for."""

import functools
from collections.abc import Callable

import torch

from python_backend.llm import decoding
from python_backend.llm.attention import Attend, DecodeAttention
from python_backend.llm.decoding import Decoded
from python_backend.llm.kv_cache import SlotCache
from python_backend.llm.speech_head import SpeechHead
from python_backend.llm.step1 import Step1

_WARM_UPS = 3  # kernels are compiled and libraries set up, which must not happen while a graph is recorded
_TABLE_ROWS = 8

Step = Callable[[], Decoded]


def buckets(slots: int) -> list[int]:
    """Return the batch sizes that get a graph: powers of two up to 8, then multiples of 8, and all slots."""
    sizes = {1, 2, 4, *range(8, slots, 8)}
    return [*sorted(size for size in sizes if size < slots), slots]


class CudaCapture:
    """Records a step and returns what repeats it on the same memory; all recordings share their scratch memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step) -> Step:
        """Run `step` a few times, then record it."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = step()

        def replay() -> Decoded:
            graph.replay()
            return result

        return replay


class GraphDecoder:
    """Copies a step's table to where the graph of its batch size reads it, and replays that graph; see `Decoder`.

    Args:
        fixed_rows: one graph, over all slots, because a product rounds differently with its number of rows.
        capture: makes a repeatable step.
        attention: makes the attention to the cache from slopes and positions [rows, 1]; must not depend on the host.
    """

    def __init__(
        self,
        model: Step1,
        head: SpeechHead | None,
        cache: SlotCache,
        fixed_rows: bool,
        capture: Callable[[Step], Step],
        attention: Callable[[SlotCache, torch.Tensor, torch.Tensor], Attend] = DecodeAttention,
    ):
        self._buckets = [cache.slots] if fixed_rows else buckets(cache.slots)
        self._tables: dict[int, torch.Tensor] = {}
        self._steps: dict[int, Step] = {}

        def step(table: torch.Tensor) -> Decoded:
            return decoding.step(model, head, table, attention(cache, model.slope, table[1].long()[:, None]))

        with torch.inference_mode():
            for rows in reversed(self._buckets):  # the largest first: the others fit into its scratch memory
                table = torch.zeros(_TABLE_ROWS, rows, dtype=torch.float64, device=model.device)
                table[1] = -1  # nobody's positions: nothing is stored
                self._tables[rows] = table
                self._steps[rows] = capture(functools.partial(step, table))

    def rows(self, used: int) -> int:
        """See `Decoder`."""
        return next(size for size in self._buckets if size >= used)

    def __call__(self, table: torch.Tensor, used: int, last: int) -> Decoded:  # noqa: ARG002
        """See `Decoder`; the result is valid until the next call."""
        rows = table.shape[1]
        self._tables[rows].copy_(table, non_blocking=True)
        return self._steps[rows]()
