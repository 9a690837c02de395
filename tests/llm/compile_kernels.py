"""Compiles the kernels for the released sizes to machine code, which needs no GPU; `test_kernels` runs it."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from python_backend.llm import kernels

HALF, FLOAT = "*bf16", "*fp32"
STRIDES = dict.fromkeys(("q_stride", "k_stride", "v_stride", "slot_stride", "group_stride"), "i32")
KERNELS = [
    (
        kernels._add_rms_norm,
        {**dict.fromkeys(("x", "update", "weight", "total", "normed"), HALF), "size": "i32", "eps": "fp32"},
        {"HAS_UPDATE": True, "BLOCK": 4096},
    ),
    (
        kernels._silu_mul,
        {**dict.fromkeys(("gate", "up", "out"), HALF), "size": "i32", "gate_stride": "i32", "up_stride": "i32"},
        {"BLOCK": 1024},
    ),
    (
        kernels._attend_part,
        {
            **dict.fromkeys(("q", "k", "v", "keys", "values"), HALF),
            "positions": "*i64",
            "slope": FLOAT,
            "part": FLOAT,
            "peak": FLOAT,
            "total": FLOAT,
            "scale": "fp32",
            **STRIDES,
        },
        {"PER_GROUP": 12, "HEADS": 16, "DIM": 64, "BLOCK": 64, "PARTS": 32},
    ),
    (
        kernels._merge_parts,
        {"part": FLOAT, "peak": FLOAT, "total": FLOAT, "out": HALF},
        {"DIM": 64, "PARTS": 32},
    ),
]

for capability in map(int, sys.argv[1:]):
    for kernel, arguments, constants in KERNELS:
        signature = arguments | dict.fromkeys(constants, "constexpr")
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        binary = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        print(capability, kernel.__name__, len(binary.asm["cubin"]), binary.metadata.shared)
