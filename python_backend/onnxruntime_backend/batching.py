"""Running the requests of one batch: one call of the network for all that share shapes, answers cut apart again."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
Network = Callable[[list[str], Tensors], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Request:
    """The inputs of one request and the outputs it asks for."""

    inputs: Tensors
    outputs: tuple[str, ...]


def run_batch(network: Network, requests: Sequence[Request], *, batched: bool) -> list[Tensors | Exception]:
    """Answer every request, in order, with its outputs or with the exception that kept it from them.

    Args:
        network: computes the named outputs from named inputs.
        requests: where `batched`, the first dimension of every input is the request's own batch.
        batched: whether the network has a batch dimension; without one every request is a call of its own.
    """
    groups: defaultdict[Any, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        groups[_signature(request) if batched else index].append(index)
    answers: list[Tensors | Exception] = [{}] * len(requests)
    for indices in groups.values():
        members = [requests[index] for index in indices]
        for index, answer in zip(indices, _run_group(network, members, batched), strict=True):
            answers[index] = answer
    return answers


def _signature(request: Request) -> tuple[Any, ...]:
    return tuple(sorted((name, value.dtype.str, value.shape[1:]) for name, value in request.inputs.items()))


def _run_group(network: Network, members: Sequence[Request], batched: bool) -> Sequence[Tensors | Exception]:
    try:
        return _run_together(network, members, batched)
    except Exception as error:
        if len(members) == 1:
            return [error]
    # One row may have spoilt the call for all, so each gets its own verdict.
    return [answer for member in members for answer in _run_group(network, [member], batched)]


def _run_together(network: Network, members: Sequence[Request], batched: bool) -> list[Tensors]:
    inputs = members[0].inputs
    if len(members) > 1:
        inputs = {name: np.concatenate([member.inputs[name] for member in members]) for name in inputs}
    wanted = sorted({name for member in members for name in member.outputs})
    outputs = dict(zip(wanted, network(wanted, inputs), strict=True))
    if not batched:
        return [outputs]
    sizes = [_rows(member.inputs) for member in members]
    for name, value in outputs.items():
        if value.shape[:1] != (sum(sizes),):
            raise ValueError(f"output '{name}' has shape {list(value.shape)} for a batch of {sum(sizes)}")
    ends = np.cumsum(sizes)
    return [
        {name: outputs[name][end - size : end] for name in member.outputs}
        for member, size, end in zip(members, sizes, ends, strict=True)
    ]


def _rows(inputs: Mapping[str, NDArray[Any]]) -> int:
    return int(next(iter(inputs.values())).shape[0])
