"""Operators on integers in NumPy: exact sums, and scales in double precision.

onnxruntime multiplies unsigned by signed bytes in pairs that saturate in 16 bits on processors without VNNI, so what it
says of such products depends on the machine. These functions say the same everywhere; onnxruntime is heard only where
its products cannot saturate (`may_saturate`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto as T

from . import plain_layers as plain
from . import values as forms
from .case import Case
from .plain_attention import quantized_attention
from .plain_recurrent import recurrent

MS = "com.microsoft"
# Operators that multiply bytes by bytes, with the inputs that are, or become, factors.
PRODUCTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("", "MatMulInteger"): (0, 1),
    ("", "QLinearMatMul"): (0, 3),
    ("", "ConvInteger"): (0, 1),
    ("", "QLinearConv"): (0, 3),
    (MS, "QLinearConv"): (0, 3),
    (MS, "MatMulIntegerToFloat"): (0, 1),
    (MS, "DynamicQuantizeMatMul"): (1,),
    (MS, "QGemm"): (0, 3),
    (MS, "QAttention"): (0, 1),
    (MS, "DynamicQuantizeLSTM"): (1, 2),
}
# The largest magnitude of signed bytes of which two times 255, added, still fit in 16 bits.
LARGEST_SAFE = 64


def may_saturate(case: Case) -> bool:
    """Whether pairs of products of the case may exceed 16 bits: where signed bytes are a factor and not small."""
    for index in PRODUCTS.get((case.domain, case.op), ()):
        value = case.operand(index)
        if isinstance(value, np.ndarray) and value.dtype == np.int8 and value.size:
            if np.abs(value.astype(np.int64)).max() > LARGEST_SAFE:
                return True
    return False


def number(case: Case, index: int, default: float = 0.0) -> np.ndarray:
    """An input in double precision, or the default in its place."""
    value = plain.double(case, index)
    return np.asarray(default) if value is None else value


def quantized(case: Case, value: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> list[np.ndarray]:
    """The only output: divided by the scale, rounded to nearest, ties to even, moved by the zero point, saturated."""
    low, high = forms.limits(case.outputs[0].type.tensor_type.elem_type)
    return plain.results(case, np.clip(np.rint(value / scale) + zero, low, high))


def dynamic(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bytes, scale and zero point of DynamicQuantizeLinear-11, step by step in float32 as its function body."""
    x = np.asarray(x, np.float32)
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255)) if high != low else np.float32(1 / 255)
    zero = np.clip(np.rint((np.float32(0) - low) / scale), 0, 255)
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), scale, zero.astype(np.uint8)


def dynamic_quantize(case: Case) -> list[np.ndarray]:
    return list(dynamic(case.operand(0)))


def quantized_gemm(case: Case) -> list[np.ndarray]:
    """QGemm: a whole sum with C, then the scales."""
    a, a_scale, a_zero, b, b_scale, b_zero, c = (number(case, index) for index in range(7))
    a, b = a - a_zero, b - b_zero if case.attribute("transB", 0) == 0 or b_zero.size == 1 else b - b_zero[:, None]
    a, b = a.T if case.attribute("transA", 0) else a, b.T if case.attribute("transB", 0) else b
    y = (a @ b + c) * (a_scale * b_scale * case.attribute("alpha", 1.0))
    if case.operand(7) is None:
        return plain.results(case, y)
    return quantized(case, y, number(case, 7), number(case, 8))


def product_to_float(case: Case) -> list[np.ndarray]:
    """MatMulIntegerToFloat."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (number(case, index) for index in range(7))
    return plain.results(case, np.matmul(a - a_zero, b - b_zero) * (a_scale * b_scale) + bias)


def dynamic_product(case: Case) -> list[np.ndarray]:
    """DynamicQuantizeMatMul."""
    b, b_scale, b_zero, bias = (number(case, index) for index in range(1, 5))
    a, a_scale, a_zero = (np.asarray(value, np.float64) for value in dynamic(case.operand(0)))
    return plain.results(case, np.matmul(a - a_zero, b - b_zero) * (a_scale * b_scale) + bias)


def channels_last_conv(case: Case) -> list[np.ndarray]:
    """QLinearConv of com.microsoft, which may have its channels at the end."""
    if not case.attribute("channels_last", 0):
        return plain.quantized_conv(case)
    x, w = number(case, 0) - number(case, 2), number(case, 3)
    w = w - plain.by_channel(number(case, 5), w.ndim, 0)
    sums = plain.convolved(case, np.moveaxis(x, -1, 1), w) + plain.by_channel(plain.double(case, 8), w.ndim, 1)
    y = sums * number(case, 1) * plain.by_channel(number(case, 4), w.ndim, 1)
    return quantized(case, np.moveaxis(y, 1, -1), number(case, 6), number(case, 7))


def wide_product(case: Case) -> list[np.ndarray]:
    """MatMulInteger16."""
    return plain.results(case, np.matmul(case.operand(0).astype(np.int64), case.operand(1).astype(np.int64)))


def byte_product(case: Case) -> list[np.ndarray]:
    """MulInteger."""
    return plain.results(case, (number(case, 0) - number(case, 1)) * (number(case, 2) - number(case, 3)))


class DynamicFactor:
    """A quantized matrix [rows, columns] whose left factor is quantized when it comes."""

    def __init__(self, case: Case, weight: int, scale: int, direction: int) -> None:
        zero, self.scale = number(case, scale + 1)[direction], number(case, scale)[direction]
        self.matrix = number(case, weight)[direction] - zero

    def product(self, x: np.ndarray) -> np.ndarray:
        codes, scale, zero = (np.asarray(value, np.float64) for value in dynamic(x))
        return (codes - zero) @ self.matrix * (scale * self.scale)


def dynamic_lstm(case: Case) -> list[np.ndarray]:
    """DynamicQuantizeLSTM: the whole input is quantized at once, the hidden states of all samples in every step."""
    return recurrent(
        case, lambda direction: (DynamicFactor(case, 1, 8, direction), DynamicFactor(case, 2, 10, direction))
    )


# Element by element, on dequantized numbers


def dequantized(case: Case, first: int) -> np.ndarray:
    """An input that its scale and zero point follow."""
    return (number(case, first) - number(case, first + 2)) * number(case, first + 1)


def binary(case: Case) -> list[np.ndarray]:
    """QLinearAdd and QLinearMul."""
    a, b = dequantized(case, 0), dequantized(case, 3)
    return quantized(case, a + b if case.op == "QLinearAdd" else a * b, number(case, 6), number(case, 7))


def softmax(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    powers = np.exp(x - x.max(axis=axes, keepdims=True))
    return powers / powers.sum(axis=axes, keepdims=True)


def unary(case: Case) -> list[np.ndarray]:
    """QLinearSigmoid, QLinearLeakyRelu and QLinearSoftmax."""
    x = dequantized(case, 0)
    if case.op == "QLinearSigmoid":
        y = 1 / (1 + np.exp(-x))
    elif case.op == "QLinearLeakyRelu":
        y = np.where(x < 0, case.attribute("alpha", 0.01) * x, x)
    else:
        axis = case.attribute("axis", -1) % x.ndim
        y = softmax(x, (axis,) if case.attribute("opset") >= 13 else tuple(range(axis, x.ndim)))
    return quantized(case, y, number(case, 3), number(case, 4))


def average_pool(case: Case) -> list[np.ndarray]:
    """QLinearAveragePool and QLinearGlobalAveragePool."""
    x = dequantized(case, 0)
    last = case.attribute("channels_last", 0)
    x = np.moveaxis(x, -1, 1) if last else x
    if case.op == "QLinearGlobalAveragePool":
        y = x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)
    else:
        window = plain.Window(case, x.shape[2:], tuple(case.attribute("kernel_shape")))
        y = np.zeros([*x.shape[:2], *window.outputs])
        # onnxruntime counts what lies beyond the pads as well.
        whole = int(np.prod(case.attribute("kernel_shape")))
        for place, inside, _ in plain.windows_of(window):
            taken = x[(slice(None), slice(None), *np.ix_(*inside))].reshape(*x.shape[:2], -1)
            count = whole if case.attribute("count_include_pad", 0) else taken.shape[-1]
            y[(slice(None), slice(None), *place)] = taken.sum(axis=-1) / count
    return quantized(case, np.moveaxis(y, 1, -1) if last else y, number(case, 3), number(case, 4))


def concat(case: Case) -> list[np.ndarray]:
    """QLinearConcat."""
    parts = [dequantized(case, first) for first in range(2, len(case.under_test.input), 3)]
    return quantized(case, np.concatenate(parts, axis=case.attribute("axis")), number(case, 0), number(case, 1))


def where(case: Case) -> list[np.ndarray]:
    """QLinearWhere."""
    x, y = dequantized(case, 1), dequantized(case, 4)
    return quantized(case, np.where(case.operand(0), x, y), number(case, 7), number(case, 8))


def linear(case: Case) -> list[np.ndarray]:
    """QuantizeLinear and DequantizeLinear of com.microsoft, by tensor or by axis; the division is that of float32."""
    x, scale, zero = case.operand(0), case.operand(1), case.operand(2)
    axis = case.attribute("axis", 1)
    if scale.ndim:
        shape = [-1 if at == axis % x.ndim else 1 for at in range(x.ndim)]
        scale, zero = scale.reshape(shape), None if zero is None else zero.reshape(shape)
    zero = np.float64(0) if zero is None else zero.astype(np.float64)
    if case.op == "DequantizeLinear":
        return plain.results(case, (x.astype(np.float64) - zero) * scale)
    return quantized(case, (x / scale).astype(np.float64), np.float64(1), zero)


def blockwise(case: Case) -> list[np.ndarray]:
    """MatMulNBits: codes of few bits, the lowest first, in blocks that have a scale and a zero point."""
    bits, block = case.attribute("bits"), case.attribute("block_size")
    n, k = case.attribute("N"), case.attribute("K")
    codes = unpacked(case.operand(1), bits).reshape(n, -1)[:, :k]
    blocks = -(-k // block)
    scales, zeros = number(case, 2).reshape(n, blocks), case.operand(3)
    if zeros is None:
        points = np.full([n, blocks], float(1 << (bits - 1)))
    elif zeros.dtype == np.uint8:
        points = unpacked(zeros.reshape(n, -1), bits)[:, :blocks]
    else:
        points = zeros.astype(np.float64).reshape(n, blocks)
    groups = np.arange(k) // block if case.operand(4) is None else case.operand(4)
    weights = (codes - points[:, groups]) * scales[:, groups]
    return plain.results(case, number(case, 0) @ weights.T + number(case, 5))


def unpacked(codes: np.ndarray, bits: int) -> np.ndarray:
    """The integers of bytes, the lowest bits first."""
    parts = [codes >> (bits * index) & ((1 << bits) - 1) for index in range(8 // bits)]
    return np.stack(parts, axis=-1).reshape(*codes.shape[:-1], -1).astype(np.float64)


EXACT: dict[tuple[str, str], Callable[[Case], list[Any]]] = {
    ("", "MatMulInteger"): plain.matmul_integer,
    ("", "QLinearMatMul"): plain.quantized_matmul,
    ("", "ConvInteger"): plain.conv_integer,
    ("", "QLinearConv"): plain.quantized_conv,
    ("", "DynamicQuantizeLinear"): dynamic_quantize,
    (MS, "MatMulIntegerToFloat"): product_to_float,
    (MS, "DynamicQuantizeMatMul"): dynamic_product,
    (MS, "QGemm"): quantized_gemm,
    (MS, "QLinearConv"): channels_last_conv,
    (MS, "MatMulInteger16"): wide_product,
    (MS, "MulInteger"): byte_product,
    (MS, "QAttention"): quantized_attention,
    (MS, "DynamicQuantizeLSTM"): dynamic_lstm,
    (MS, "QLinearAdd"): binary,
    (MS, "QLinearMul"): binary,
    (MS, "QLinearSigmoid"): unary,
    (MS, "QLinearLeakyRelu"): unary,
    (MS, "QLinearSoftmax"): unary,
    (MS, "QLinearAveragePool"): average_pool,
    (MS, "QLinearGlobalAveragePool"): average_pool,
    (MS, "QLinearConcat"): concat,
    (MS, "QLinearWhere"): where,
    (MS, "QuantizeLinear"): linear,
    (MS, "DequantizeLinear"): linear,
    (MS, "MatMulNBits"): blockwise,
}
