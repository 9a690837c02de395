"""GPU kernels in the Triton language (the compiler that comes with torch, no relation to the server) and their calls.

Decoding reads every weight once per step, so what lies between the matrix products must cost next to nothing: each of
these is one launch, and none depends on the host, so that a CUDA graph can hold them.
"""

# The language has no types for mypy, and writes compile-time constants in capitals.
# mypy: disable-error-code="no-untyped-def,untyped-decorator,misc"
# ruff: noqa: N803

import torch
import triton
import triton.language as tl

_KEYS_AT_ONCE = 64
_SMALLEST_DOT = 16  # rows that tl.dot takes at least
_PROGRAMS = 512  # enough to keep every multiprocessor reading keys; more only lengthens the merge
_MOST_PARTS = 32


def add_rms_norm(
    x: torch.Tensor, update: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x + update and its norm, see `ops.add_rms_norm`; x and update contiguous."""
    size = x.shape[-1]
    normed = torch.empty_like(x)
    total = x if update is None else torch.empty_like(x)
    block = triton.next_power_of_2(size)
    _add_rms_norm[(x.numel() // size,)](
        x, update, weight, total, normed, size, eps, HAS_UPDATE=update is not None, BLOCK=block, num_warps=8
    )
    return total, normed


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) · up, see `ops.silu_mul`; their rows may lie in one wider tensor."""
    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    size = gate.shape[-1]
    grid = (gate.numel() // size, triton.cdiv(size, 1024))
    _silu_mul[grid](gate, up, out, size, gate.stride(-2), up.stride(-2), BLOCK=1024)
    return out


def decode_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    positions: torch.Tensor,
    slope: torch.Tensor,
) -> torch.Tensor:
    """Store one key and value per row and attend to all up to it.

    The keys of a row are cut into parts that run side by side (split-K, as in flash-decoding), then merged.

    Args:
        q: [rows, heads · head_dim]; k, v: [rows, groups · head_dim]; dense last dimensions.
        keys, values: one layer of the cache, [slots, groups, positions, head_dim], row r in slot r.
        positions: int64 [rows]; rows with a negative one store nothing and get zeros.
        slope: float32 [groups, heads per group].

    Returns:
        As `q`.
    """
    rows, (groups, per_group), dim = len(q), slope.shape, keys.shape[-1]
    heads = groups * per_group
    parts = min(_MOST_PARTS, triton.next_power_of_2(max(1, _PROGRAMS // (rows * groups))))
    part = torch.empty(rows, heads, parts, dim, dtype=torch.float32, device=q.device)
    peak = torch.empty(rows, heads, parts, dtype=torch.float32, device=q.device)
    total = torch.empty_like(peak)
    out = torch.empty(rows, heads * dim, dtype=q.dtype, device=q.device)
    _attend_part[(rows, groups, parts)](
        *(q, k, v, keys, values, positions, slope, part, peak, total, dim**-0.5),
        *(q.stride(0), k.stride(0), v.stride(0), keys.stride(0), keys.stride(1)),
        PER_GROUP=per_group,
        HEADS=max(_SMALLEST_DOT, triton.next_power_of_2(per_group)),
        DIM=dim,
        BLOCK=_KEYS_AT_ONCE,
        PARTS=parts,
    )
    _merge_parts[(rows, heads)](part, peak, total, out, DIM=dim, PARTS=parts, num_warps=2)
    return out


@triton.jit
def _add_rms_norm(
    x,
    update,
    weight,
    total,
    normed,
    size,
    eps,
    HAS_UPDATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column = tl.arange(0, BLOCK)
    inside = column < size
    at = tl.program_id(0).to(tl.int64) * size + column
    wide = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        wide += tl.load(update + at, mask=inside, other=0.0).to(tl.float32)
        rounded = wide.to(total.dtype.element_ty)
        tl.store(total + at, rounded, mask=inside)
        wide = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / size + eps)
    result = wide * scale * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + at, result.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _silu_mul(gate, up, out, size, gate_stride, up_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    g = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    result = g / (1.0 + tl.exp(-g)) * u
    tl.store(out + row * size + column, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _attend_part(
    q, k, v, keys, values, positions, slope, part, peak, total, scale,
    q_stride, k_stride, v_stride, slot_stride, group_stride,
    PER_GROUP: tl.constexpr, HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    row, group, index = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    position = tl.load(positions + row).to(tl.int32)
    share = tl.cdiv(tl.cdiv(position + 1, PARTS), BLOCK) * BLOCK
    first = index * share
    end = tl.minimum(first + share, position + 1)

    head, channel = tl.arange(0, HEADS), tl.arange(0, DIM)
    real = head < PER_GROUP
    head_at = group * PER_GROUP + head
    query = tl.load(q + row * q_stride + head_at[:, None] * DIM + channel[None, :], mask=real[:, None], other=0.0)
    steepness = tl.load(slope + head_at, mask=real, other=0.0)
    slot = row * slot_stride + group * group_stride

    if (first <= position) & (position < first + share):  # the part that ends with the new token stores it
        new = slot + position * DIM + channel
        tl.store(keys + new, tl.load(k + row * k_stride + group * DIM + channel))
        tl.store(values + new, tl.load(v + row * v_stride + group * DIM + channel))
        tl.debug_barrier()  # before any thread of this program reads it back

    highest = tl.full([HEADS], float("-inf"), tl.float32)
    weights = tl.zeros([HEADS], tl.float32)
    mix = tl.zeros([HEADS, DIM], tl.float32)
    for start in range(first, end, BLOCK):
        key_at = start + tl.arange(0, BLOCK)
        seen = key_at < end
        place = slot + key_at[:, None] * DIM + channel[None, :]
        key = tl.load(keys + place, mask=seen[:, None], other=0.0)
        value = tl.load(values + place, mask=seen[:, None], other=0.0)
        root = tl.sqrt(tl.maximum(position - key_at, 0).to(tl.float32))
        bias = (-steepness[:, None] * root[None, :]).to(key.dtype)  # rounded as the reference does
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale + bias.to(tl.float32)
        score = tl.where(seen[None, :], score, float("-inf"))
        higher = tl.maximum(highest, tl.max(score, 1))
        weight = tl.exp(score - higher[:, None])
        fade = tl.exp(highest - higher)
        weights = weights * fade + tl.sum(weight, 1)
        mix = mix * fade[:, None] + tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        highest = higher

    place = (row * tl.num_programs(1) * PER_GROUP + head_at) * PARTS + index
    tl.store(peak + place, highest, mask=real)
    tl.store(total + place, weights, mask=real)
    tl.store(part + place[:, None] * DIM + channel[None, :], mix, mask=real[:, None])


@triton.jit
def _merge_parts(part, peak, total, out, DIM: tl.constexpr, PARTS: tl.constexpr):
    head = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    index, channel = tl.arange(0, PARTS), tl.arange(0, DIM)
    place = head * PARTS + index
    peaks = tl.load(peak + place)
    highest = tl.max(peaks, 0)
    fade = tl.where(peaks == float("-inf"), 0.0, tl.exp(peaks - highest))  # an empty part has no peak
    mix = tl.sum(tl.load(part + place[:, None] * DIM + channel[None, :]) * fade[:, None], 0)
    weights = tl.sum(tl.load(total + place) * fade, 0)
    result = mix / tl.where(weights > 0.0, weights, 1.0)
    tl.store(out + head * DIM + channel, result.to(out.dtype.element_ty))
