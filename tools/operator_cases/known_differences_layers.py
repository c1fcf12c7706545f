"""Explained disagreements on the layers of networks, images, signals and losses; see known_differences.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto as T

from . import plain_layers as plain
from .case import Case
from .known_differences import DIFFERENCES, KnownDifference
from .plain_attention import attention, linear_attention
from .plain_images import affine_grid, max_roi_pool
from .plain_recurrent import recurrent
from .plain_resize import is_plain, old_resize, resize
from .plain_training import optimizer
from .values import COMPLEX, FLOAT8


def rank(case: Case, index: int = 0) -> int:
    return np.ndim(case.operand(index))


def elem(case: Case) -> int:
    """The element type of the first output."""
    return case.outputs[0].type.tensor_type.elem_type


def same(case: Case) -> bool:
    return case.attribute("auto_pad", "NOTSET").startswith("SAME")


def dilated(case: Case) -> bool:
    return any(value != 1 for value in case.attribute("dilations") or [])


def odd_pool(case: Case) -> bool:
    """Where the reference evaluator or onnxruntime goes its own way in placing windows, or nobody computes the pool."""
    automatic = case.attribute("auto_pad", "NOTSET") != "NOTSET"
    if case.version == 1 or case.attribute("ceil_mode", 0) or (automatic and dilated(case)):
        return True
    if case.op == "MaxPool":
        padded = same(case) or any(case.attribute("pads") or [])
        return padded or len(case.outputs) > 1 or dilated(case)
    return same(case)


def by_rows(case: Case, index: int) -> bool:
    """True if a parameter of the left factor is a vector, one number a row."""
    value = case.operand(index)
    return value is not None and np.ndim(value) == 1 and np.size(value) > 1


def channel_parameters(case: Case) -> bool:
    indices = (4, 5) if case.op == "QLinearConv" else (3,)
    return rank(case) != 4 and any(np.ndim(case.operand(index)) == 1 for index in indices)


def own_recurrence(case: Case) -> bool:
    """Where onnxruntime does not compute the layer."""
    return case.version < 7 or elem(case) in (T.DOUBLE, T.BFLOAT16) or bool(case.attribute("layout", 0))


def bare_recurrence(case: Case) -> bool:
    """Where the reference evaluator computes the layer: no attribute and no input that it leaves out of account."""
    ignored = ("activations", "clip", "input_forget") if case.op != "RNN" else ("activations", "clip")
    return not any(case.attribute(name) for name in ignored) and case.operand(4) is None


def odd_attention(case: Case) -> bool:
    """Where the oracles differ from the specification; not where the softmax has a precision of its own."""
    capped = len(case.under_test.output) > 3 and (
        bool(case.attribute("softcap", 0.0)) or case.attribute("qk_matmul_output_mode", 0) == 2)
    bounded = case.attribute("is_causal", 0) or any(
        case.attribute(name, -1) >= 0 for name in ("left_window_size", "right_window_size"))
    return bool(capped or bounded or case.operand(3) is not None)


def odd_resize(case: Case) -> bool:
    if case.version == 10 or not is_plain(case):
        return False
    from_end = any(axis < 0 for axis in case.attribute("axes") or [])
    if from_end and case.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        return True
    return elem(case) in COMPLEX or case.attribute("coordinate_transformation_mode", "") in (
        "tf_crop_and_resize", "pytorch_half_pixel", "tf_half_pixel_for_nn")


def odd_recurrence(case: Case) -> bool:
    """Where onnxruntime differs from the specification, or from what it says of the operators."""
    names = case.attribute("activations") or []
    unset = b"ThresholdedRelu" in names and not case.attribute("activation_alpha")
    lengths = case.operand(4)
    return unset or b"Softplus" in names or (lengths is not None and bool(np.any(lengths == 0)))


def empty_sum(case: Case) -> bool:
    """True if the factors have no element in common to sum over."""
    a = case.operand(0)
    shared = -2 if case.op == "Gemm" and case.attribute("transA", 0) else -1
    return np.shape(a)[shared] == 0


def mixed(case: Case) -> bool:
    """True if the floating-point inputs are of more than one type."""
    names = case.under_test.input if case.under_test else ()
    values = [case.operand(index) for index in range(len(names))]
    kinds = {value.dtype for value in values if isinstance(value, np.ndarray) and value.dtype.kind in "fV"}
    return len(kinds) > 1


def entry(
    operators: str, right: str, reason: str, applies: Any = None, expected: Any = None, domain: str = ""
) -> KnownDifference:
    return KnownDifference(
        tuple(operators.split()), right, reason, applies or (lambda case: True), domain, expected)


ENTRIES = [
    entry(
        "MaxPool AveragePool LpPool", "specification",
        "Pools: with pads, ceil_mode and auto_pad the windows begin at the pads of the specification, dilations "
        "count in them, and indices count over all planes; version 1 of AveragePool leaves pads out. The "
        "reference evaluator and onnxruntime each differ in some of these.",
        odd_pool, plain.pool),
    entry(
        "GlobalMaxPool", "specification",
        "GlobalMaxPool keeps every axis; the reference evaluator does so with two spatial axes only.",
        lambda case: rank(case) != 4, plain.global_pool),
    entry(
        "GlobalLpPool", "specification",
        "GlobalLpPool: no other engine at hand computes version 1, and types other than float32.",
        lambda case: case.version == 1 or elem(case) != T.FLOAT or case.opset > 21, plain.global_pool),
    entry(
        "MaxUnpool", "reference",
        "MaxUnpool: indices are those of the tensor that was pooled, also where output_shape is larger; "
        "onnxruntime takes them as indices of the output.",
        ),
    entry(
        "ConvTranspose", "specification",
        "ConvTranspose: groups and output_shape as in the specification; the reference evaluator mixes up groups.",
        lambda case: case.attribute("group", 1) != 1 or bool(case.attribute("output_shape")) or same(case),
        plain.conv_transpose),
    entry(
        "DeformConv", "specification",
        "DeformConv of half precision computes places in float32; the reference evaluator rounds them to the type.",
        lambda case: elem(case) in (T.FLOAT16, T.BFLOAT16), plain.deformable),
    entry(
        "ConvInteger", "specification",
        "ConvInteger: a zero point for every channel works with any number of axes; onnxruntime refuses, the "
        "reference evaluator takes two spatial axes for granted.",
        channel_parameters, plain.conv_integer),
    entry(
        "QLinearConv", "specification",
        "QLinearConv: scales and zero points of channels work with any number of axes; the reference evaluator "
        "takes two spatial axes for granted.",
        channel_parameters, plain.quantized_conv),
    entry(
        "MatMulInteger", "specification",
        "MatMulInteger: a vector of zero points of the left factor has one for every row; the reference evaluator "
        "broadcasts it over columns, onnxruntime refuses.", lambda case: by_rows(case, 2), plain.matmul_integer),
    entry(
        "QLinearMatMul", "specification",
        "QLinearMatMul: scales of the left factor go by rows, and scales add no axes to products of vectors; no other "
        "engine at hand computes float8.",
        lambda case: by_rows(case, 1) or elem(case) in FLOAT8 or 1 in (rank(case), rank(case, 3)),
        plain.quantized_matmul),
    entry(
        "Gemm", "specification",
        "Gemm before version 7 scales C by beta also without broadcast; the reference evaluator does not.",
        lambda case: case.version < 7, plain.gemm),
    entry(
        "MatMul Gemm MatMulInteger QLinearMatMul", "reference",
        "A product over no elements is 0; onnxruntime leaves its memory as it was, or leaves beta out.", empty_sum),
    entry(
        "Softmax LogSoftmax Hardmax", "specification",
        "Softmax, LogSoftmax and Hardmax before version 13 work on the rows of a matrix; the reference evaluator "
        "works on one axis in every version.",
        lambda case: case.version < 13, plain.softmax_of_rows),
    entry(
        "LogSoftmax", "specification",
        "LogSoftmax of numbers far apart stays finite; the reference evaluator takes the logarithm of a softmax "
        "of 0.",
        lambda case: np.ptp(np.asarray(case.operand(0)).astype(np.float64)) > 8 if np.size(case.operand(0)) else False,
        plain.softmax_of_rows),
    entry(
        "LRN", "specification",
        "LRN sums squares around every channel; the reference evaluator does so for as many channels as the batch"
        " has images, onnxruntime takes odd sizes only.",
        None, plain.local_response),
    entry(
        "LpNormalization", "specification",
        "LpNormalization of order 1 sums magnitudes, and in half precision squares do not vanish; the reference "
        "evaluator sums signed numbers in the type.",
        lambda case: case.attribute("p", 2) == 1 or elem(case) in (T.FLOAT16, T.BFLOAT16), plain.lp_normalization),
    entry(
        "MeanVarianceNormalization", "specification",
        "MeanVarianceNormalization of equal numbers is 0, by the epsilon of the function's body; onnxruntime gives "
        "NaN. Both compute the body in float32 only.", None, plain.mean_variance),
    entry(
        "BatchNormalization", "specification",
        "BatchNormalization before version 14 normalizes by the given mean and variance in test mode; the reference "
        "evaluator trains in versions 7 to 13 and knows neither version 1 nor spatial=0.",
        lambda case: case.version < 14 or mixed(case), plain.batch_normalization),
    entry(
        "Attention", "specification",
        "Attention: the causal frontier moves by the cache, masks of one row count for every query, and output 3 "
        "in mode 0 is not capped. The reference evaluator caps it and builds the frontier in the shape of the "
        "mask; onnxruntime aligns the frontier with the last key, shows what is masked as the least number, and gives "
        "NaN for a query that sees nothing.",
        odd_attention, attention),
    entry(
        "RNN GRU LSTM", "specification",
        "RNN, GRU and LSTM: the reference evaluator leaves activations, clip, input_forget and sequence_lens out of "
        "account; onnxruntime has no layout 1, no float64, no versions before 7.",
        lambda case: own_recurrence(case) and not (bare_recurrence(case) and case.version >= 7), recurrent),
    entry(
        "RNN GRU LSTM", "specification",
        "RNN, GRU and LSTM: alpha of ThresholdedRelu is 1 by default, as for the operator, Softplus does not overflow, "
        "and a sequence without elements leaves the state as it was; onnxruntime says 0 for alpha and for the state.",
        odd_recurrence, recurrent),
    entry(
        "RNN GRU LSTM", "onnxruntime",
        "RNN, GRU and LSTM: the reference evaluator leaves activations, clip, input_forget and sequence_lens out of "
        "account.", lambda case: not bare_recurrence(case)),
    entry(
        "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", "specification",
        "NegativeLogLikelihoodLoss: the mean is over what is not ignored, also with ignore_index -1.",
        lambda case: case.op == "NegativeLogLikelihoodLoss" and case.attribute("ignore_index") == -1,
        plain.negative_log_likelihood),
    entry(
        "DFT", "reference",
        "DFT: half a spectrum that is shorter or longer than dft_length needs is cut or padded; onnxruntime reads"
        " beyond.",
        lambda case: bool(case.attribute("inverse", 0) and case.attribute("onesided", 0))),
    entry(
        "AffineGrid", "specification",
        "AffineGrid with align_corners and an extent of 1 has its only point at -1; onnxruntime gives NaN or "
        "other points.",
        lambda case: elem(case) != T.FLOAT or (
            bool(case.attribute("align_corners", 0)) and 1 in np.ravel(case.operand(1))[2:]), affine_grid),
    entry(
        "Col2Im", "reference",
        "Col2Im with one or three spatial axes is wrong in onnxruntime beyond the first channel.",
        lambda case: np.size(case.operand(1)) != 2),
    entry(
        "GridSample", "onnxruntime",
        "GridSample: coordinates of half precision are computed in float32, and cubic samples beyond a border "
        "draw on border elements one by one; the reference evaluator rounds coordinates, and moves the point to "
        "the border.",
        lambda case: np.asarray(case.operand(1)).dtype.itemsize == 2 or (
            case.attribute("mode", "") in ("cubic", "bicubic") and case.attribute("padding_mode", "") == "border")),
    entry(
        "GridSample", "specification",
        "GridSample of strings: empty strings stand for zeros; the reference evaluator has the text 0.",
        lambda case: np.asarray(case.operand(0)).dtype == object),
    entry(
        "MelWeightMatrix", "specification",
        "MelWeightMatrix: edges of half precision are taken to mels in full precision; the reference evaluator "
        "rounds.",
        lambda case: np.asarray(case.operand(3)).dtype.itemsize == 2, plain.mel_weights),
    entry(
        "Resize", "specification",
        "Resize: tf_crop_and_resize takes the extrapolation value outside in every mode and divides by the "
        "output's extent, pytorch_half_pixel of one element lies at 0, aspect policies work with axes from the "
        "end, and complex numbers keep both parts, as in the specification; the oracles differ in parts.",
        odd_resize, resize),
    entry(
        "Resize", "reference",
        "Resize of int8 with antialias: onnxruntime saturates at 0.",
        lambda case: elem(case) == T.INT8 and bool(case.attribute("antialias", 0))),
    entry(
        "Resize", "reference",
        "Resize with align_corners divides by the extent before it was rounded, as the specification's examples do; "
        "onnxruntime divides by the rounded one.",
        lambda case: case.attribute("coordinate_transformation_mode", "") == "align_corners"),
    entry(
        "RoiAlign", "onnxruntime",
        "RoiAlign of version 10 has no half-pixel shift; the reference evaluator shifts in every version.",
        lambda case: case.version == 10),
    entry(
        "RMSNormalization", "specification",
        "RMSNormalization with a scale of another type: neither the reference evaluator nor onnxruntime computes it.",
        mixed, plain.rms_normalization),
    entry(
        "GroupNormalization", "specification",
        "GroupNormalization takes the mean square of what is left after the mean; the reference evaluator and "
        "onnxruntime take the difference of two means, which cancels.", None, plain.group_normalization),
    entry(
        "InstanceNormalization", "specification",
        "InstanceNormalization: neither the reference evaluator nor onnxruntime computes version 1.",
        lambda case: case.version == 1, plain.instance_normalization),
    entry(
        "Det", "specification",
        "Det: the reference evaluator gives float64 for bfloat16, onnxruntime does not compute it.",
        lambda case: elem(case) == T.BFLOAT16, plain.determinant),
    entry(
        "LinearAttention", "specification",
        "LinearAttention with a state of another type: neither the reference evaluator nor onnxruntime computes it.",
        lambda case: len({info.type.tensor_type.elem_type for info in case.outputs}) > 1, linear_attention),
    entry(
        "MaxRoiPool", "specification",
        "MaxRoiPool: the reference evaluator does not compute it, onnxruntime does in float32 before version 22.",
        lambda case: elem(case) != T.FLOAT or case.opset > 21, max_roi_pool),
    entry(
        "Upsample", "specification",
        "Upsample: the reference evaluator computes whole scales of images, onnxruntime few types and not version 1.",
        None, old_resize),
    entry(
        "Resize", "specification",
        "Resize of version 10: the reference evaluator does not compute it, onnxruntime computes few types.",
        lambda case: case.version == 10, old_resize),
    entry(
        "Adagrad Adam Momentum", "specification",
        "Adagrad, Adam and Momentum: the reference evaluator gives results of the type of the rate, and of float32 for "
        "several tensors of Adam.", lambda case: mixed(case) or elem(case) == T.DOUBLE, optimizer,
        "ai.onnx.preview.training"),
]
DIFFERENCES += ENTRIES
