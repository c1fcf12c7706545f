"""Rules of arithmetic, reductions, conversions and com.microsoft; see rules.py. The other modules known_differences_*
have those of tensors, layers and ai.onnx.ml."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto as T

from . import oracles
from . import values as forms
from .case import Case
from .rules import Authority, rule

TEXT, BODY, DATA, AGREEMENT, ONNXRUNTIME, REFERENCE = Authority
MS = "com.microsoft"


def holds(case: Case, predicate: Callable[[np.ndarray], Any]) -> bool:
    """Whether an input has an element of which the predicate is true."""
    arrays = [
        value
        for value in case.values_by_name.values()
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OUS"
    ]
    wide = [forms.comparable(array) for array in arrays]
    return any(bool(np.any(predicate(array))) for array in wide if array.dtype.kind == "f")


def of_integers(case: Case) -> bool:
    return case.types.get("T") in forms.INTEGERS


def quotient(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The quotient; of integers truncated, and 0 where the divisor is 0."""
    if left.dtype.kind == "f":
        return left / right

    def divide(a: int, b: int) -> int:
        return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)

    exact = np.frompyfunc(divide, 2, 1)(left.astype(object), right.astype(object))
    return np.asarray(exact & (2**64 - 1)).astype(np.uint64).astype(left.dtype)


LEGACY: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": quotient,
    "Pow": np.power,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
}


def legacy_broadcast(case: Case) -> list[np.ndarray]:
    """Input 1 stands at the axes of input 0 from `axis` on."""
    left, right = case.operand(0), case.operand(1)
    trailing = left.ndim - case.attribute("axis") - right.ndim
    return [LEGACY[case.op](left, right.reshape([*right.shape, *[1] * trailing]))]


def legacy_prelu(case: Case) -> list[np.ndarray]:
    """A slope for every channel, which is axis 1."""
    x, slope = case.operand(0), case.operand(1)
    slope = slope.reshape([slope.size, *[1] * max(x.ndim - 2, 0)])
    return [np.where(x < 0, x * slope, x).astype(x.dtype)]


REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)
RANDOM = "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Dropout"


def kept(case: Case) -> list[np.ndarray]:
    """Dropout that drops nothing."""
    x = case.operand(0)
    return [x, np.ones(x.shape, x.dtype if case.version < 10 else bool)][: len(case.outputs)]


def exact_activation(case: Case) -> list[np.ndarray]:
    """Gelu and HardSwish in double precision."""
    x = case.operand(0)
    if case.op == "HardSwish":
        return [x * np.clip(x / 6 + 0.5, 0, 1)]
    if case.attribute("approximate", "none") == "tanh":
        return [0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))]
    return [0.5 * x * complementary(-x / np.sqrt(2))]


complementary = np.vectorize(math.erfc, otypes=[np.float64])


def empty_reduction(case: Case) -> list[np.ndarray]:
    """Sums and products of nothing."""
    x = case.operand(0)
    axes, keeps = case.attribute("axes"), bool(case.attribute("keepdims", 1))
    fold = np.prod if case.op == "ReduceProd" else np.sum
    return [fold(x, axis=None if axes is None else tuple(axes), keepdims=keeps).astype(x.dtype)]


def clipped(case: Case) -> list[np.ndarray]:
    """Clip of version 6."""
    x, limits = case.operand(0), np.finfo(np.float32)
    low, high = case.attribute("min", float(limits.min)), case.attribute("max", float(limits.max))
    with np.errstate(over="ignore"):
        return [np.minimum(np.maximum(x, np.asarray(low, x.dtype)), np.asarray(high, x.dtype))]


def old_selu(case: Case) -> list[np.ndarray]:
    """Selu with the defaults of version 1."""
    x = case.operand(0).astype(np.float64)
    alpha, gamma = case.attribute("alpha", 1.6732), case.attribute("gamma", 1.0507)
    return [(gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))).astype(case.operand(0).dtype)]


def of_floats(case: Case) -> bool:
    return case.types.get("T1") in (*forms.FLOATS, *forms.NARROW_FLOATS)


rule(
    "PRelu",
    TEXT,
    "Before version 7 a slope that is not one for all is one a channel; the reference evaluator aligns it with the"
    " last axis.",
    "PRelu-1 and PRelu-6, input slope",
    lambda case: case.version < 7,
    expected=legacy_prelu,
)
rule(
    " ".join(LEGACY),
    TEXT,
    "Before version 7 axis says where the axes of input 1 stand; the reference evaluator does not read it.",
    "Add-6 and its relatives, attributes axis and broadcast",
    lambda case: case.version < 7 and case.attribute("axis") is not None,
    expected=legacy_broadcast,
)
rule(
    "Shrink",
    REFERENCE,
    "Shrink of float64 is computed in float64; onnxruntime goes through float32.",
    "onnx/reference/ops/op_shrink.py; Shrink-9 constrains input and output to one type",
    lambda case: case.types.get("T") == T.DOUBLE,
    right="reference",
)
rule(
    "Gelu HardSwish",
    TEXT,
    "Constants are as exact as the type; the reference evaluator computes the function body, whose constants are of"
    " 32 bits.",
    "Gelu-20: erf(x / sqrt(2)); HardSwish-14: alpha is 1/6",
    lambda case: case.types.get("T") == T.DOUBLE,
    expected=exact_activation,
)
rule(
    "Erf",
    TEXT,
    "The error function of float64 has that precision; the reference evaluator goes through float32.",
    "Erf-13, type constraint T",
    lambda case: case.types.get("T") == T.DOUBLE,
    expected=lambda case: [1 - complementary(case.operand(0))],
)
rule(
    "Clip",
    BODY,
    "A bound that is not given bounds nothing, not even infinities; onnxruntime has the largest finite numbers in its"
    " place.",
    "function body of Clip-13: Identity, or one comparison",
    lambda case: case.version >= 11 and holds(case, np.isinf),
    right="reference",
)
rule(
    "Clip",
    TEXT,
    "Before version 11 the bounds are attributes, with the largest finite numbers of 32 bits as their defaults.",
    "Clip-6, attributes min and max",
    lambda case: case.version == 6 and holds(case, np.isinf),
    expected=clipped,
)
rule(
    "Selu",
    TEXT,
    "Before version 6 alpha is 1.6732 and gamma 1.0507 by default; the reference evaluator has the longer numbers of"
    " version"
    " 6.",
    "Selu-1, attributes alpha and gamma",
    lambda case: case.version == 1,
    expected=old_selu,
)
rule(
    "Dropout",
    TEXT,
    "The mask of Dropout 7 and 10, which drops nothing, is true everywhere; onnxruntime says false.",
    "Dropout-10: outside of training the output is a copy, so that the mask of what is kept is true",
    lambda case: 7 <= case.version < 12,
    expected=kept,
)
rule(
    RANDOM,
    REFERENCE,
    "With a seed random operators give the numbers of the reference evaluator.",
    "the cases of the ONNX backend suite of these operators were drawn with it",
    lambda case: case.version >= 12 or case.op != "Dropout",
    right="reference",
)
rule(
    "ReduceMax ReduceMin ArgMax ArgMin",
    REFERENCE,
    "NaN is the largest and the smallest number, as in NumPy; onnxruntime passes it over.",
    "onnx/reference/ops/op_reduce_max.py",
    lambda case: holds(case, np.isnan),
    right="reference",
)
rule(
    "ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ReduceProd",
    TEXT,
    "The reduction of nothing is 0, and 1 of products; onnxruntime keeps extents of 0 where an axis counts from the"
    " end.",
    "ReduceSumSquare-13, attribute keepdims: the reduced dimension is retained with size 1",
    lambda case: case.operand(0).size == 0 and case.version < 13,
    expected=empty_reduction,
)
rule(
    "ReduceLogSumExp ReduceLogSum ReduceL2",
    BODY,
    "Roots and logarithms of integers are computed in floating point and truncated.",
    "function bodies of ReduceL2-18, ReduceLogSum-18 and ReduceLogSumExp-18, which cast to a float and back",
    of_integers,
    expected=lambda case: oracles.run_wide(case, (case.types["T"],)),
)
rule(
    "ReduceMean",
    REFERENCE,
    "Means of integers are computed in floating point and truncated.",
    "onnx/reference/ops/op_reduce_mean.py",
    of_integers,
    expected=lambda case: oracles.run_wide(case, (case.types["T"],)),
)
rule(
    "QuantizeLinear",
    TEXT,
    "The attribute precision is the type of the division; onnxruntime does not read it.",
    "QuantizeLinear-23, attribute precision",
    lambda case: bool(case.attribute("precision")),
    right="reference",
)
rule(
    "QuantizeLinear",
    TEXT,
    "A scale of half precision is that of the division too; onnxruntime divides in float32, and the reference"
    " evaluator in the wider of both types.",
    "QuantizeLinear-21: the type of y_scale determines the precision of the division",
    lambda case: forms.elem_type_of(case.operand(1)) in (T.FLOAT16, T.BFLOAT16),
    expected=lambda case: oracles.run_converted(case, forms.elem_type_of(case.operand(1))),
)
rule(
    "Cast CastLike",
    TEXT,
    "-0 is false, of floats of a byte too; onnxruntime says true.",
    "Cast-13, floating point to bool",
    lambda case: case.types.get("T2") == T.BOOL and case.types.get("T1") in forms.FLOAT8,
    right="reference",
)
rule(
    "Cast CastLike",
    REFERENCE,
    "Floats are truncated on the way to integers of 4 and 2 bits, as to all others; onnxruntime rounds.",
    "onnx/reference/ops/op_cast.py, ml_dtypes",
    lambda case: case.types.get("T2") in forms.NARROW_INTEGERS and of_floats(case),
    right="reference",
)
rule(
    "QMoE",
    TEXT,
    "Only weights are quantized; onnxruntime quantizes the activations to 8 bits as well where blocks of weights"
    " have 8.",
    "onnxruntime's ContribOperators.md, QMoE: inputs are of type T, weights of T1",
    lambda case: case.attribute("expert_weight_bits") == 8 and bool(case.attribute("block_size")),
    right="numpy",
    domain=MS,
)
rule(
    "MoE",
    ONNXRUNTIME,
    "Without normalization experts of float16 are weighed as those of float32; onnxruntime does it otherwise.",
    "onnxruntime's kernel for float32",
    lambda case: not case.attribute("normalize_routing_weights"),
    right="numpy",
    domain=MS,
)
