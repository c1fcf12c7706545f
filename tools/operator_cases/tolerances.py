"""How near two results must come: by type, and where that is not enough by operator, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
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
    """Another tolerance of some operators for some types of output, with its reason; `applies` asks the case. `scaled`:
    the absolute part counts in units of the largest number that NumPy expects."""

    operators: str
    types: tuple[int, ...]
    pair: Pair
    reason: str
    domain: str = ""
    applies: Callable[[Any], bool] = lambda case: True
    scaled: bool = False

    def of(self, case: Any) -> Pair:
        relative, absolute = self.pair
        return (relative, absolute * (1 + float(np.abs(case.expected[0]).max(initial=0)))) if self.scaled else self.pair

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


def stash_is_narrow(case: Any) -> bool:
    return case.attribute("stash_type", T.FLOAT) != T.DOUBLE


def masks_scores(case: Any) -> bool:
    """Whether an attention of com.microsoft has a mask."""
    places = {"Attention": 3, "MultiHeadAttention": 4, "DecoderMaskedMultiHeadAttention": 3, "QAttention": 5}
    return case.operand(places[case.op]) is not None


def softmax_type(case: Any) -> int:
    """The type in which an attention computes its softmax; 0 if it is that of the inputs."""
    return case.attribute("softmax_precision", 0)


BY_OPERATOR: tuple[Wider, ...] = (
    Wider(
        "QLinearMatMul QLinearConv",
        BYTES,
        STEP,
        "scales are multiplied in float32, in either order, so that a quotient near a tie falls to either side",
    ),
    Wider(
        "QLinearConv QGemm QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu QLinearSoftmax QLinearAveragePool"
        " QLinearGlobalAveragePool QLinearConcat QLinearWhere",
        BYTES,
        STEP,
        "a quotient near a tie falls to either side",
        MS,
    ),
    Wider(
        "Resize Upsample GridSample",
        forms.INTEGERS,
        STEP,
        "interpolated integers are rounded by one oracle and cut by the other",
    ),
    Wider(
        "Conv ConvTranspose",
        SINGLE,
        (1e-5, 1e-4),
        "sums of up to 800 products that are ten times as large as what is left",
    ),
    Wider(
        "RNN GRU LSTM",
        SINGLE,
        (1e-4, 1e-4),
        "activations without a bound let terms grow that cancel",
        applies=lambda case: case.attribute("activations") is not None,
    ),
    Wider(
        "GroupNormalization LayerNormalization RMSNormalization SimplifiedLayerNormalization",
        (T.DOUBLE,),
        BY_TYPE[T.FLOAT],
        "the first stage is of the precision that stash_type names, float32 by default",
        applies=stash_is_narrow,
    ),
    Wider(
        "Attention",
        (T.DOUBLE, *SINGLE, T.BFLOAT16),
        BY_TYPE[T.FLOAT16],
        "softmax_precision says that of the softmax",
        applies=lambda case: softmax_type(case) == T.FLOAT16,
    ),
    Wider(
        "FlexAttention",
        (T.DOUBLE, *SINGLE),
        BY_TYPE[T.FLOAT16],
        "softmax_precision says that of the softmax",
        "ai.onnx.preview",
        lambda case: softmax_type(case) == T.FLOAT16,
    ),
    Wider(
        "Attention",
        (T.DOUBLE, *SINGLE, T.FLOAT16, T.BFLOAT16),
        (2**-5, 2**-5),
        "softmax_precision says that of the softmax, which rounds scores of some units",
        applies=lambda case: softmax_type(case) == T.BFLOAT16,
    ),
    Wider(
        "FlexAttention",
        (T.DOUBLE, *SINGLE, T.FLOAT16, T.BFLOAT16),
        (2**-5, 2**-5),
        "softmax_precision says that of the softmax and of every step of its modifiers",
        "ai.onnx.preview",
        lambda case: softmax_type(case) == T.BFLOAT16,
    ),
    Wider(
        "Attention",
        (T.DOUBLE,),
        BY_TYPE[T.FLOAT],
        "softmax_precision says that of the softmax",
        applies=lambda case: softmax_type(case) == T.FLOAT,
    ),
    Wider("Attention", (T.DOUBLE,), (1e-7, 1e-7), "both oracles take the root of the scale in float32"),
    Wider(
        "FlexAttention",
        (T.DOUBLE,),
        BY_TYPE[T.FLOAT],
        "softmax_precision says that of the softmax",
        "ai.onnx.preview",
        lambda case: softmax_type(case) == T.FLOAT,
    ),
    Wider("BeamSearch", SINGLE, (1e-4, 1e-4), "sums of logarithms over the steps of a decoder", MS),
    Wider("MatMulNBits", SINGLE, (1e-5, 1e-4), "sums of up to 160 products that are a hundred times as large", MS),
    Wider(
        "Attention MultiHeadAttention DecoderMaskedMultiHeadAttention QAttention",
        SINGLE,
        (2e-3, 2e-3),
        "a mask is the number -10000 that is added: where it hides all keys, scores have few digits left",
        MS,
        lambda case: masks_scores(case),
    ),
    Wider("QAttention", SINGLE, (1e-3, 1e-3), "scores of some tens, whose last digits the softmax multiplies", MS),
    Wider("MultiHeadAttention GroupQueryAttention", HALF, (1e-2, 1e-2), "onnxruntime rounds every step to float16", MS),
    Wider(
        "DynamicQuantizeLSTM",
        SINGLE,
        (1e-2, 1e-2),
        "a number that is rounded the other way is one step of the quantization further",
        MS,
    ),
    Wider("FlexAttention", (T.DOUBLE,), (1e-7, 1e-7), "the function body has its scale in float32", "ai.onnx.preview"),
    Wider(
        "MoE QMoE",
        SINGLE,
        (1e-4, 1e-4),
        "large terms cancel, in float32 and in blocks that each engine sums as it likes",
        MS,
        scaled=True,
    ),
    Wider(
        "MoE QMoE",
        HALF,
        (2e-2, 5e-3),
        "onnxruntime rounds every product to float16, and large terms cancel",
        MS,
        scaled=True,
    ),
    Wider("Resize", (T.DOUBLE,), BY_TYPE[T.FLOAT], "scales and coordinates are of float32"),
    Wider("GridSample", (T.DOUBLE,), BY_TYPE[T.FLOAT], "the reference evaluator computes coordinates in float32"),
    Wider(
        "ImageDecoder",
        (T.UINT8,),
        STEP,
        "the weights of the colours are Pillow's own, in whole numbers",
        applies=lambda case: case.attribute("pixel_format") == "Grayscale",
    ),
)


def tolerance_of(case: Any, elem_type: int) -> Pair:
    """Relative and absolute tolerance of an output of the case."""
    for entry in BY_OPERATOR:
        if entry.holds(case, elem_type):
            return entry.of(case)
    return by_type(elem_type)
