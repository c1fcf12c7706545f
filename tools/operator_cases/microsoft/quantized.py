"""Operators on quantized tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Case, generator


def scale(case: Case, shape: list[int] | None = None) -> np.ndarray:
    return np.asarray(case.rng.uniform(0.005, 0.05, shape or []), dtype=np.float32)


def zero(case: Case, dtype: Any, chance: float = 0.8) -> np.ndarray | None:
    return case.quantized([], dtype) if case.chance(chance) else None


@generator("MulInteger", domain="com.microsoft")
def products_of_bytes(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    shape = case.shape(case.size(0, 4), 0, 4)
    other = shape[case.size(0, len(shape)) :] if case.chance() else shape
    case.node(
        [
            case.input(case.quantized(shape, dtype)),
            case.input(zero(case, dtype), 0.8),
            case.input(case.quantized(other, dtype)),
            case.input(zero(case, dtype), 0.8),
        ],
        [np.int32],
    )


@generator("MatMulIntegerToFloat", "DynamicQuantizeMatMul", domain="com.microsoft")
def integer_products(case: Case) -> None:
    batch = case.shape(case.size(0, 2), 1, 3)
    m, n, k = case.shape(3, 1, 20)
    dtype = case.pick(np.uint8, np.int8)
    per_column = case.chance(0.4) and n > 1
    columns = [n] if per_column else []
    scales = scale(case, columns)
    points = case.quantized(columns, dtype) if case.chance(0.7) else None
    bias = case.floats([n]) if case.chance() else None
    b = case.input(case.factors([k, n], dtype), 0.8)
    if case.op == "MatMulIntegerToFloat":
        left = np.uint8 if dtype == np.uint8 else case.pick(np.uint8, np.int8)
        inputs = [
            case.input(case.factors(batch + [m, k], left)),
            b,
            case.input(scale(case)),
            case.input(scales, 0.8),
            case.input(zero(case, left)),
            case.input(points, 0.8),
            case.input(bias, 0.8),
        ]
    else:
        inputs = [
            case.input(case.floats(batch + [m, k])),
            b,
            case.input(scales, 0.8),
            case.input(points, 0.8),
            case.input(bias, 0.8),
        ]
    case.node(inputs, [np.float32])


@generator("QGemm", domain="com.microsoft")
def quantized_gemm(case: Case) -> None:
    m, n, k = case.shape(3, 1, 20)
    dtype = case.pick(np.uint8, np.int8)
    left = np.uint8 if dtype == np.uint8 else case.pick(np.uint8, np.int8)
    trans_a, trans_b = case.size(0, 1), case.size(0, 1)
    columns = [n] if case.chance(0.4) and n > 1 else []
    quantizes = case.chance()
    inputs = [
        case.input(case.factors([k, m] if trans_a else [m, k], left)),
        case.input(scale(case)),
        case.input(case.quantized([], left)),
        case.input(case.factors([n, k] if trans_b else [k, n], dtype), 0.8),
        case.input(scale(case, columns), 0.8),
        case.input(case.quantized(columns, dtype), 0.8),
        case.input(
            case.integers(case.pick([n], [m, n], [1, n], [m, 1], [1]), -999, 999, np.int32) if case.chance() else None,
            0.8,
        ),
        case.input(np.float32(0.5) if quantizes else None, 0.8),
        case.input(case.quantized([], left) if quantizes else None, 0.8),
    ]
    case.node(inputs, [left if quantizes else np.float32], transA=trans_a, transB=trans_b, alpha=case.pick(None, 0.7))


@generator("QEmbedLayerNormalization", domain="com.microsoft")
def quantized_embedding(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    batch, length, hidden = case.size(1, 3), case.size(1, 6), case.size(2, 20)
    has_segments = case.chance(0.7)
    tables = [case.quantized(shape, dtype) for shape in ([11, hidden], [9, hidden], [2, hidden], [hidden], [hidden])]
    if not has_segments:
        tables[2] = None
    inputs = [
        case.input(case.integers([batch, length], 0, 11, np.int32)),
        case.input(case.integers([batch, length], 0, 2, np.int32) if has_segments else None),
    ]
    inputs += [case.input(table, True) for table in tables]
    inputs += [case.input(case.integers([batch, length], 0, 2, np.int32) if case.chance() else None)]
    inputs += [case.input(scale(case) if has_segments or index != 2 else None, True) for index in range(5)]
    inputs += [
        case.input(case.quantized([], dtype) if has_segments or index != 2 else None, True) for index in range(5)
    ]
    case.node(inputs, [np.float32, np.int32])


def broadcast_pair(case: Case) -> tuple[list[int], list[int]]:
    shape = case.shape(case.size(0, 4))
    left = [1 if case.chance(0.2) else size for size in shape]
    right = [size if left[axis] != size or case.chance(0.8) else 1 for axis, size in enumerate(shape)]
    return left, right[case.size(0, len(right)) if case.chance(0.3) else 0 :]


@generator("QLinearAdd", "QLinearMul", domain="com.microsoft")
def binary(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    left, right = broadcast_pair(case)
    inputs = []
    for shape in (left, right):
        inputs += [
            case.input(case.quantized(shape, dtype), 0.2),
            case.input(scale(case), True),
            case.input(zero(case, dtype), True),
        ]
    inputs += [case.input(np.float32(case.rng.uniform(0.02, 0.08)), True), case.input(zero(case, dtype), True)]
    case.node(inputs, [dtype])


@generator("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain="com.microsoft")
def unary(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    rank = case.size(1, 4)
    # A probability of 1 wraps to 0 in onnxruntime.
    shape = case.shape(rank, 2)
    attributes = {}
    y_scale, y_zero = scale(case), zero(case, dtype, 1)
    if case.op == "QLinearLeakyRelu":
        attributes = {"alpha": case.pick(None, 0.2)}
    if case.op == "QLinearSoftmax":
        attributes = {"opset": case.pick(11, 13), "axis": case.size(-rank, rank - 1)}
        y_scale, y_zero = np.float32(1 / 256), np.array(np.iinfo(dtype).min, dtype)
    inputs = [
        case.input(case.quantized(shape, dtype)),
        case.input(scale(case), True),
        case.input(zero(case, dtype, 1), True),
        case.input(y_scale, True),
        case.input(y_zero, True),
    ]
    case.node(inputs, [dtype], **attributes)


@generator("QLinearAveragePool", "QLinearGlobalAveragePool", domain="com.microsoft")
def pool(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    axes = case.pick(1, 2, 2, 3) if case.op == "QLinearAveragePool" else 2
    channels_last = case.size(0, 1)
    spatial, channels = case.shape(axes, 5, 9), case.size(1, 20)
    attributes: dict = {"channels_last": channels_last}
    if case.op == "QLinearAveragePool":
        attributes |= {
            "kernel_shape": case.shape(axes, 1, 3),
            "strides": case.shape(axes, 1, 2),
            "ceil_mode": case.pick(None, 1),
            "count_include_pad": case.size(0, 1),
        }
        if case.chance():
            attributes["pads"] = [0] * 2 * axes
            if min(attributes["kernel_shape"]) > 1:
                attributes["pads"] = case.shape(2 * axes, 0, 1)
    batch = case.size(1, 2)
    shape = [batch, *spatial, channels] if channels_last else [batch, channels, *spatial]
    inputs = [
        case.input(case.quantized(shape, dtype)),
        case.input(scale(case), True),
        case.input(zero(case, dtype, 1), True),
        case.input(scale(case), True),
        case.input(zero(case, dtype, 1), True),
    ]
    case.node(inputs, [dtype], **attributes)


@generator("QLinearConcat", domain="com.microsoft")
def concat(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    rank = case.size(1, 4)
    axis = case.size(-rank, rank - 1)
    shape = case.shape(rank)
    inputs = [case.input(scale(case), True), case.input(zero(case, dtype, 1), True)]
    for _ in range(case.size(1, 4)):
        shape[axis] = case.size(1, 5)
        inputs += [
            case.input(case.quantized(shape, dtype)),
            case.input(scale(case), True),
            case.input(zero(case, dtype, 1), True),
        ]
    case.node(inputs, [dtype], axis=axis)


@generator("QLinearWhere", domain="com.microsoft")
def where(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    left, right = broadcast_pair(case)
    inputs = [case.input(case.integers(left if case.chance() else right, 0, 2, bool))]
    for shape in (left, right):
        inputs += [
            case.input(case.quantized(shape, dtype)),
            case.input(scale(case), True),
            case.input(zero(case, dtype, 1), True),
        ]
    inputs += [case.input(scale(case), True), case.input(zero(case, dtype, 1), True)]
    case.node(inputs, [dtype])


@generator("QuantizeLinear", domain="com.microsoft")
def quantize(case: Case) -> None:
    rank = case.size(1, 4)
    shape = case.shape(rank)
    dtype = case.pick(np.uint8, np.int8, np.uint16, np.int16)
    axis = case.size(-rank, rank - 1)
    per_axis = case.chance()
    sizes = [shape[axis]] if per_axis else []
    case.node(
        [case.input(case.floats(shape)), case.input(scale(case, sizes)), case.input(case.quantized(sizes, dtype))],
        [dtype],
        axis=axis if per_axis else None,
    )


@generator("DequantizeLinear", domain="com.microsoft")
def dequantize(case: Case) -> None:
    rank = case.size(1, 4)
    shape = case.shape(rank)
    dtype = case.pick(np.uint8, np.int8, np.uint16, np.int16, np.int32)
    axis = case.size(-rank, rank - 1)
    per_axis = case.chance()
    sizes = [shape[axis]] if per_axis else []
    points = None if dtype == np.int32 else case.quantized(sizes, dtype)
    case.node(
        [case.input(case.quantized(shape, dtype)), case.input(scale(case, sizes)), case.input(points)],
        [np.float32],
        axis=axis if per_axis else None,
    )


@generator("QLinearConv", domain="com.microsoft")
def conv(case: Case) -> None:
    dtype = case.pick(np.uint8, np.int8)
    group = case.pick(1, 1, 2)
    channels, outputs = group * case.size(1, 4), group * case.size(1, 4)
    kernel = case.shape(2, 1, 3)
    spatial = case.shape(2, 5, 9)
    channels_last = case.size(0, 1)
    batch = case.size(1, 2)
    shape = [batch, *spatial, channels] if channels_last else [batch, channels, *spatial]
    columns = [outputs] if case.chance() else []
    weights = np.int8 if dtype == np.int8 else case.pick(np.uint8, np.int8)
    inputs = [
        case.input(case.factors(shape, dtype)),
        case.input(scale(case), True),
        case.input(case.quantized([], dtype), True),
        case.input(case.factors([outputs, channels // group, *kernel], weights), True),
        case.input(scale(case, columns), True),
        case.input(np.zeros(columns, weights), True),
        case.input(np.float32(0.4), True),
        case.input(case.quantized([], dtype), True),
        case.input(case.integers([outputs], -999, 999, np.int32) if case.chance() else None, True),
    ]
    case.node(
        inputs,
        [dtype],
        channels_last=channels_last,
        group=group,
        kernel_shape=kernel,
        pads=case.shape(4, 0, 1) if case.chance() else None,
        strides=case.shape(2, 1, 2) if case.chance() else None,
    )


@generator("MatMulNBits", domain="com.microsoft")
def matmul_nbits(case: Case) -> None:
    bits = case.pick(4, 4, 4, 8, 2)
    block = case.pick(16, 32, 64)
    n, k = case.size(1, 40), case.size(1, 5) * case.pick(8, 16, 32)
    blocks = -(-k // block)
    batch = case.shape(case.size(0, 2), 1, 3) + [case.size(1, 6)]
    dtype = case.float_type() if bits == 4 else np.float32
    blob = block * bits // 8
    # Elements behind the last column are zero, as the quantizers write them.
    weights = case.quantized([n, blocks, blob], np.uint8)
    form = case.pick("none", "packed", "float") if bits == 4 else case.pick("none", "packed")
    zeros = None
    if form == "packed":
        zeros = case.quantized([n, -(-blocks * bits // 8)], np.uint8)
    elif form == "float":
        zeros = case.floats([n, blocks], 4) + 8
    zeros = None if zeros is None else zeros.astype(np.uint8 if form == "packed" else dtype)
    bias = case.floats([n]) if case.chance(0.3) else None
    scales = case.floats([n, blocks], 0.05)
    if case.chance():
        scales = scales.ravel()
        zeros = None if zeros is None else zeros.ravel()
    constant = case.chance(0.8)
    groups = None
    # Beside g_idx, onnxruntime takes packed zero points for 8.
    if bits == 4 and dtype == np.float32 and form != "packed" and case.chance(0.2):
        groups = (np.arange(k) // block).astype(np.int32)
        case.rng.shuffle(groups)
        if case.chance(0.3):
            groups = np.pad(groups, (0, blocks * block - k))
    inputs = [case.input(case.floats(batch + [k]))]
    inputs += [case.input(value, constant) for value in (weights, scales, zeros, groups, bias)]
    case.node(inputs, [dtype], K=k, N=n, bits=bits, block_size=block)


@generator("MatMulBnb4", domain="com.microsoft")
def matmul_bnb4(case: Case) -> None:
    n, k, block = case.size(1, 30), case.size(1, 5) * case.pick(2, 16), case.pick(16, 32, 64)
    batch = case.shape(case.size(0, 2), 1, 3) + [case.size(1, 6)]
    inputs = [
        case.input(case.floats(batch + [k])),
        case.input(case.quantized([(n * k + 1) // 2], np.uint8), True),
        case.input(np.abs(case.floats([-(-n * k // block)])), True),
    ]
    case.node(inputs, [np.float32], K=k, N=n, block_size=block, quant_type=case.size(0, 1))
