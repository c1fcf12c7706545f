"""Explained disagreements: which oracle is right where the two differ. The reasons stand in docs/numerics.md too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto as T

from . import oracles
from . import values as forms
from .case import Case


@dataclass(frozen=True)
class KnownDifference:
    """Cases of operators on which at least one oracle is wrong.

    right: "reference" or "onnxruntime", where that one is to be followed, or "specification", where neither is: then
    `expected` computes the outputs, or, without it, only their types and shapes are compared. An entry counts where the
    oracles differ or the wrong one is the only one; one of "specification" wherever it applies, and with `expected`
    also where no oracle computes the case. `discards`: what the wrong one says alone is of no use, not even its types
    and shapes, and the case is drawn anew. More entries are in the modules known_differences_….
    """

    operators: tuple[str, ...]
    right: str
    reason: str
    applies: Callable[[Case], bool] = lambda case: True
    domain: str = ""
    expected: Callable[[Case], list[Any]] | None = None
    discards: bool = False


def is_empty(case: Case) -> bool:
    return any(isinstance(value, np.ndarray) and value.size == 0 for value in case.values_by_name.values())


def holds(case: Case, *predicates: Callable[[np.ndarray], Any]) -> bool:
    """Whether an input has an element of which one of the predicates is true."""
    arrays = [
        value
        for value in case.values_by_name.values()
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OUS"
    ]
    wide = [forms.comparable(array) for array in arrays]
    return any(bool(np.any(predicate(array))) for array in wide if array.dtype.kind == "f" for predicate in predicates)


def halves(case: Case) -> bool:
    return bool({T.FLOAT16, T.BFLOAT16} & {info.type.tensor_type.elem_type for info in (*case.inputs, *case.outputs)})


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
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
RANDOM = (
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "Dropout",
)

DIFFERENCES: list[KnownDifference] = [
    KnownDifference(
        ("PRelu",),
        "specification",
        "Before version 7 PRelu has one slope, or one a channel; the reference evaluator aligns it with the last axis.",
        lambda case: case.version < 7,
        expected=legacy_prelu,
    ),
    KnownDifference(
        ("Sign",), "reference", "The sign of NaN is NaN; ONNX Runtime says 0.", lambda case: holds(case, np.isnan)
    ),
    KnownDifference(
        ("Shrink",),
        "reference",
        "Shrink of float64 is computed in float64; ONNX Runtime goes through float32.",
        lambda case: case.types.get("T") == T.DOUBLE,
    ),
    KnownDifference(
        tuple(name for name in REDUCTIONS if name not in ("ReduceMax", "ReduceMin")),
        "specification",
        "ONNX Runtime keeps the reduced axes of tensors without elements as they are.",
        lambda case: is_empty(case) and of_integers(case),
        expected=lambda case: oracles.run_wide(case, (case.types["T"],)),
    ),
    KnownDifference(
        tuple(LEGACY),
        "specification",
        "Before version 7 axis says where the axes of input 1 stand; the reference evaluator does not read it.",
        lambda case: case.version < 7 and case.attribute("axis") is not None,
        expected=legacy_broadcast,
    ),
    KnownDifference(
        ("Dropout",),
        "specification",
        "The mask of Dropout 7 and 10, which drops nothing, is true everywhere.",
        lambda case: 7 <= case.version < 12,
        expected=lambda case: [
            case.operand(0),
            np.ones(case.operand(0).shape, case.operand(0).dtype if case.version < 10 else bool),
        ][: len(case.outputs)],
    ),
    KnownDifference(
        RANDOM,
        "reference",
        "With a seed random operators give the numbers of the reference evaluator.",
        lambda case: case.version >= 12 or case.op != "Dropout",
    ),
    KnownDifference(
        (*REDUCTIONS, "ArgMax", "ArgMin"),
        "reference",
        "ONNX Runtime keeps the reduced axes of tensors without elements as they are.",
        is_empty,
    ),
    KnownDifference(
        ("ReduceMax", "ReduceMin", "ArgMax", "ArgMin"),
        "reference",
        "NaN is the largest and the smallest number, as in NumPy.",
        lambda case: holds(case, np.isnan),
    ),
    KnownDifference(
        ("ReduceLogSumExp", "ReduceLogSum", "ReduceL2", "ReduceMean"),
        "specification",
        "Means, roots and logarithms of integers are computed in floating point and truncated.",
        of_integers,
        expected=lambda case: oracles.run_wide(case, (case.types["T"],)),
    ),
    KnownDifference(
        REDUCTIONS,
        "specification",
        "Sums of float16 and bfloat16 are computed in float32 and rounded once.",
        halves,
        expected=oracles.run_wide,
    ),
    KnownDifference(
        ("Sum", "Mean"), "reference", "Sum and Mean of float16 and bfloat16 round after each input.", halves
    ),
    KnownDifference(
        ("Clip",),
        "reference",
        "Clip without a bound leaves infinities alone, from version 11 on.",
        lambda case: case.version >= 11 and holds(case, np.isinf),
    ),
    KnownDifference(
        ("QuantizeLinear",),
        "reference",
        "ONNX Runtime does not read the attribute precision.",
        lambda case: bool(case.attribute("precision")),
    ),
    KnownDifference(
        ("Cast", "CastLike"),
        "reference",
        "-0 is false, of floats of a byte too; ONNX Runtime says true.",
        lambda case: case.types.get("T2") == T.BOOL and case.types.get("T1") in forms.FLOAT8,
    ),
    KnownDifference(
        ("Cast", "CastLike"),
        "reference",
        "A float becomes a string as in NumPy's arrays.",
        lambda case: case.types.get("T2") == T.STRING,
    ),
    KnownDifference(
        ("Cast", "CastLike"),
        "reference",
        "Floats are truncated on the way to integers of 4 and 2 bits, as to all others.",
        lambda case: case.types.get("T2") in forms.NARROW_INTEGERS,
    ),
    KnownDifference(
        ("QMoE",),
        "reference",
        "ONNX Runtime quantizes the activations to 8 bits where blocks of weights have 8 bits.",
        lambda case: case.attribute("expert_weight_bits") == 8 and bool(case.attribute("block_size")),
        "com.microsoft",
    ),
    KnownDifference(
        ("MoE",),
        "reference",
        "Without normalization ONNX Runtime weighs experts of float16 otherwise than those of float32.",
        lambda case: not case.attribute("normalize_routing_weights"),
        "com.microsoft",
    ),
    KnownDifference(
        ("Sampling",),
        "specification",
        "ONNX Runtime takes every presence penalty from the first token.",
        lambda case: bool(case.attribute("presence_penalty")) and case.operand(7) is not None,
        "com.microsoft",
    ),
]


def known_difference(case: Case) -> KnownDifference | None:
    """The first entry that applies to the case."""
    for entry in DIFFERENCES:
        if case.op in entry.operators and case.domain == entry.domain and entry.applies(case):
            return entry
    return None
