"""Operators that move, pick, index and compare."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from ..case import Case, generator

NUMBERS = (np.float32, np.float64, np.int64, np.int32)


def numbers(case: Case, shape: list[int], dtype: type) -> np.ndarray:
    return (case.rng.standard_normal(tuple(shape)) * 5).astype(dtype)


@generator("Trilu", domain="com.microsoft")
def trilu(case: Case) -> None:
    dtype = case.pick(*NUMBERS)
    k = case.integers(case.pick([], [1]), -4, 5) if case.chance() else None
    case.node(
        [case.input(numbers(case, case.shape(case.size(2, 4)), dtype)), case.input(k)],
        [dtype],
        upper=case.pick(None, 0, 1),
    )


@generator("GridSample", domain="com.microsoft")
def grid_sample(case: Case) -> None:
    batch = case.size(1, 3)
    grid = case.rng.uniform(-1.3, 1.3, (batch, case.size(1, 5), case.size(1, 5), 2)).astype(np.float32)
    case.node(
        [case.input(case.floats([batch, case.size(1, 3), case.size(2, 6), case.size(2, 6)])), case.input(grid)],
        [np.float32],
        mode=case.pick(None, "bilinear", "nearest", "bicubic"),
        padding_mode=case.pick(None, "zeros", "border", "reflection"),
        align_corners=case.pick(None, 0, 1),
    )


@generator("Pad", domain="com.microsoft")
def pad(case: Case) -> None:
    rank = case.size(1, 4)
    pads = case.integers([2 * rank], 0, 3)
    mode = case.pick(None, "constant", "edge", "reflect")
    value = case.floats([1]) if mode in (None, "constant") and case.chance() else None
    case.node(
        [
            case.input(case.floats(case.shape(rank, 3, 6))),
            case.input(pads.reshape(case.pick((2 * rank,), (1, 2 * rank))), 0.5),
            case.input(value),
        ],
        [np.float32],
        mode=mode,
    )


@generator("Unique", domain="com.microsoft")
def unique(case: Case) -> None:
    case.node(
        [case.input(case.integers([case.size(1, 12)], 0, 5).astype(np.float32))], [np.float32, np.int64, np.int64]
    )


@generator("Range", domain="com.microsoft")
def arange(case: Case) -> None:
    dtype = case.pick(np.float32, np.float64, np.int16, np.int32, np.int64)
    start, delta = case.size(-5, 5), case.pick(-2, -1, 1, 3)
    given = delta == 1 and case.chance()
    shape = case.pick([], [1])
    values = [start, start + delta * case.size(-1, 6)] + ([] if given else [delta])
    case.node([case.input(np.full(shape, value, dtype), 0.3) for value in values], [dtype])


@generator("ExpandDims", domain="com.microsoft")
def expand_dims(case: Case) -> None:
    rank = case.size(1, 3)
    dtype = case.pick(*NUMBERS)
    axis = np.array(case.size(-rank - 1, rank), np.int32)
    case.node([case.input(numbers(case, case.shape(rank), dtype)), case.input(axis, 0.5)], [dtype])


@generator("UnfoldTensor", domain="com.microsoft")
def unfold(case: Case) -> None:
    rank = case.size(1, 4)
    shape = case.shape(rank, 4, 7)
    dtype = case.pick(*NUMBERS)
    case.node(
        [case.input(numbers(case, shape, dtype))],
        [dtype],
        dim=case.size(-rank, rank - 1),
        size=case.size(1, 4),
        step=case.pick(None, 1, 2, 3),
    )


@generator("CDist", domain="com.microsoft")
def cdist(case: Case) -> None:
    dtype = case.pick(np.float32, np.float64)
    case.dtype = dtype
    width = case.size(1, 9)
    case.node(
        [case.input(case.floats([case.size(1, 9), width])), case.input(case.floats([case.size(1, 9), width]))],
        [dtype],
        metric=case.pick("sqeuclidean", "euclidean"),
    )


@generator("GatherBlockQuantized", domain="com.microsoft")
def gather_quantized(case: Case) -> None:
    form = case.pick("uint4", "int4", "uint8", "uint8", "uint8")
    bits = case.pick(2, 4, 8) if form == "uint8" else 4
    rank = 2 if form == "uint8" else case.size(2, 3)
    block = case.pick(16, 32)
    shape = case.shape(rank, 2, 5)
    axis = rank - 1 if form == "uint8" else case.size(0, rank - 1)
    others = [index for index in range(rank) if index != axis]
    gather_axis = 0 if form == "uint8" else case.pick(*others)
    shape[axis] = block * case.size(1, 3) + (case.pick(0, 8) if form != "uint8" else 0)
    blocks = -(-shape[axis] // block)
    per_block = [blocks if index == axis else size for index, size in enumerate(shape)]
    indices = case.integers(
        case.shape(case.size(0, 2), 1, 3), -shape[gather_axis], shape[gather_axis], case.pick(np.int32, np.int64)
    )
    dtype = case.float_type()
    scales = case.input(np.abs(case.floats(per_block, 0.1)), True)
    has_zero = case.chance()

    def packed(size: list[int]) -> str:
        if form != "uint8":
            low, high = (0, 16) if form == "uint4" else (-8, 8)
            values = case.integers(size, low, high, np.int64).ravel().tolist()
            kind = TensorProto.UINT4 if form == "uint4" else TensorProto.INT4
            return case.initializer(helper.make_tensor("x", kind, size, values))
        return case.input(case.quantized(size[:-1] + [-(-size[-1] * bits // 8)], np.uint8), True)

    data = packed(shape)
    zero = packed(per_block) if has_zero else ""
    case.node(
        [data, case.input(indices), scales, zero],
        [dtype],
        gather_axis=gather_axis,
        quantize_axis=axis,
        block_size=block,
        bits=bits if form == "uint8" else None,
    )


@generator("Inverse", domain="com.microsoft")
def inverse(case: Case) -> None:
    case.dtype = case.pick(np.float32, np.float64)
    side = case.size(1, 6)
    matrices = case.floats(case.shape(case.size(0, 2)) + [side, side]) + 3 * np.eye(side, dtype=case.dtype)
    case.node([case.input(matrices)], [case.dtype])


@generator("NGramRepeatBlock", domain="com.microsoft")
def ngram_repeat_block(case: Case) -> None:
    batch, vocabulary = case.size(1, 3), case.size(2, 5)
    size = case.size(1, 3)
    ids = case.integers([batch, case.size(size, 12)], 0, vocabulary)
    case.node([case.input(ids), case.input(case.floats([batch, vocabulary]))], [np.float32], ngram_size=size)


@generator("NGramHashMapping", domain="com.microsoft")
def ngram_hash_mapping(case: Case) -> None:
    dtype = case.pick(np.int32, np.int64)
    batch, length, longest, heads = case.size(1, 3), case.size(1, 7), case.size(2, 4), case.size(1, 3)
    columns = (longest - 1) * heads

    def ids(shape: list[int], low: int = 0, high: int = 6) -> np.ndarray:
        return case.integers(shape, low, high, dtype)

    inputs = [
        case.input(ids([batch, length])),
        case.input(ids([longest + case.size(0, 1)], -(2**31), 2**31 - 1)),
        case.input(ids([columns], 1, 1000)),
        case.input(ids([batch, longest - 1]) if case.chance() else None),
        case.input(ids([columns], 0, 9999) if case.chance() else None),
        case.input(ids([], 0, 4) if case.chance() else None),
        case.input(np.sort(case.integers([batch, length], 0, 3, np.int32), 1) if case.chance() else None),
    ]
    attributes = {"max_ngram_size": longest, "n_head_per_ngram": heads, "pad_id": case.size(0, 9)}
    case.node(inputs, [dtype, dtype], reset_on_eos=case.pick(None, 0, 1), **attributes)


@generator("MurmurHash3", domain="com.microsoft")
def murmur_hash(case: Case) -> None:
    dtype = case.pick(np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64, object)
    shape = case.shape(case.size(1, 3))
    if dtype is object:
        words = [
            "".join(chr(97 + int(c)) for c in case.integers([case.size(0, 9)], 0, 26))
            for _ in range(int(np.prod(shape)))
        ]
        values = np.array(words, dtype=object).reshape(shape)
    else:
        values = numbers(case, shape, dtype)
    positive = case.pick(None, 0, 1)
    case.node(
        [case.input(values)], [np.int32 if positive == 0 else np.uint32], positive=positive, seed=case.pick(None, 42)
    )


@generator("CropAndResize", domain="com.microsoft")
def crop_and_resize(case: Case) -> None:
    batch, regions = case.size(1, 3), case.size(1, 5)
    inputs = [
        case.input(case.floats([batch, case.size(1, 3), case.size(2, 7), case.size(2, 7)])),
        case.input(case.rng.uniform(-0.2, 1.2, (regions, 4)).astype(np.float32)),
        case.input(case.integers([regions], 0, batch, np.int32)),
        case.input(np.array(case.shape(2, 1, 5), np.int32), 0.5),
    ]
    case.node(
        inputs, [np.float32], mode=case.pick(None, "bilinear", "nearest"), extrapolation_value=case.pick(None, 2.5)
    )
