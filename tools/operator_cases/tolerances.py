"""How near two results must come: by type, and where that is not enough by operator, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnx import TensorProto as T

from . import values as forms

Pair = tuple[float, float]  # relative, absolute; of narrow floats in steps, of integers in units

# bfloat16: two units in the last place of a number just above a power of two.
BY_TYPE: dict[int, Pair] = {
    T.DOUBLE: (1e-9, 1e-9),
    T.COMPLEX128: (1e-9, 1e-9),
    T.FLOAT: (1e-5, 1e-5),
    T.COMPLEX64: (1e-5, 1e-5),
    T.FLOAT16: (2e-3, 2e-3),
    T.BFLOAT16: (2**-7, 2**-7),
}
STEP: Pair = (0.0, 1.0)
EXACT: Pair = (0.0, 0.0)


def by_type(elem_type: int) -> Pair:
    """The tolerance that goes with an element type."""
    return STEP if elem_type in forms.NARROW_FLOATS else BY_TYPE.get(elem_type, EXACT)


@dataclass(frozen=True)
class Wider:
    """Another tolerance of some operators for some types of output, with its reason; `applies` asks the case."""

    operators: str
    types: tuple[int, ...]
    pair: Pair
    reason: str
    domain: str = ""
    applies: Callable[[Any], bool] = lambda case: True

    def holds(self, case: Any, elem_type: int) -> bool:
        return (
            case.domain == self.domain
            and case.op in self.operators.split()
            and elem_type in self.types
            and self.applies(case)
        )


SINGLE, HALF = (T.FLOAT, T.COMPLEX64), (T.FLOAT16, T.BFLOAT16)
BYTES = (T.INT8, T.UINT8)
MS = "com.microsoft"

BY_OPERATOR: tuple[Wider, ...] = (
    Wider(
        "QLinearMatMul QLinearConv", BYTES, STEP,
        "scales are multiplied in float32, in either order, so that a quotient near a tie falls to either side"),
    Wider(
        "QLinearConv QGemm QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu QLinearSoftmax QLinearAveragePool"
        " QLinearGlobalAveragePool QLinearConcat QLinearWhere", BYTES, STEP,
        "a quotient near a tie falls to either side", MS),
    Wider(
        "Resize Upsample GridSample", forms.INTEGERS, STEP,
        "interpolated integers are rounded by one oracle and cut by the other"),
    Wider(
        "ImageDecoder", (T.UINT8,), STEP, "the weights of the colours are Pillow's own, in whole numbers",
        applies=lambda case: case.attribute("pixel_format") == "Grayscale"),
)


def tolerance_of(case: Any, elem_type: int) -> Pair:
    """Relative and absolute tolerance of an output of the case."""
    for entry in BY_OPERATOR:
        if entry.holds(case, elem_type):
            return entry.pair
    return by_type(elem_type)
