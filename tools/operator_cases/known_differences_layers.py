"""Rules of the layers of networks, images, signals and losses; see rules.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto as T

from . import oracles
from . import plain_layers as plain
from .case import Case
from .known_differences import AGREEMENT, BODY, DATA, ONNXRUNTIME, REFERENCE, TEXT
from .plain_attention import attention, linear_attention
from .plain_images import affine_grid, max_roi_pool
from .plain_recurrent import recurrent
from .plain_resize import is_plain, old_resize, resize
from .plain_training import optimizer
from .rules import rule
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
        bool(case.attribute("softcap", 0.0)) or case.attribute("qk_matmul_output_mode", 0) == 2
    )
    bounded = case.attribute("is_causal", 0) or any(
        case.attribute(name, -1) >= 0 for name in ("left_window_size", "right_window_size")
    )
    return bool(capped or bounded or case.operand(3) is not None)


def odd_resize(case: Case) -> bool:
    from_end = any(axis < 0 for axis in case.attribute("axes") or [])
    keeps_ratio = case.attribute("keep_aspect_ratio_policy", "stretch") != "stretch"
    return case.version > 10 and is_plain(case) and ((from_end and keeps_ratio) or elem(case) in COMPLEX)


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


def transform(case: Case) -> str:
    """coordinate_transformation_mode of a Resize."""
    return case.attribute("coordinate_transformation_mode", "half_pixel")


def whole_lengths(case: Case) -> bool:
    """Whether a Resize has a mode in whose formula length_resized is a whole number."""
    return transform(case) in ("pytorch_half_pixel", "tf_crop_and_resize", "tf_half_pixel_for_nn") and is_plain(case)


def vanishes(case: Case) -> bool:
    """Whether the softmax of some number is 0, or below the normal numbers of its type."""
    x = np.asarray(case.operand(0)).astype(np.float64)
    span = x.max(initial=-np.inf) - x.min(initial=np.inf)
    least = {T.FLOAT: 87, T.DOUBLE: 708}.get(elem(case), 10)
    return bool(x.size) and not span <= least


def cancels_in_groups(case: Case) -> bool:
    """Whether the square of a mean is more than 30 times what the variance of its group adds up to."""
    x = np.asarray(case.operand(0)).astype(np.float64)
    rows = x.reshape(x.shape[0], case.attribute("num_groups"), -1)
    spread = rows.var(axis=2) + case.attribute("epsilon", 1e-5)
    return bool(np.any(rows.mean(axis=2) ** 2 > 30 * spread))


def odd_variance(case: Case) -> bool:
    """Whether the square of a mean is more than 30 times the variance, or a type is not float32."""
    x = np.asarray(case.operand(0)).astype(np.float64)
    axes = tuple(case.attribute("axes") or (0, 2, 3))
    return elem(case) != T.FLOAT or bool(np.any(x.mean(axis=axes) ** 2 > 30 * x.var(axis=axes)))


# Pools

rule(
    "MaxPool AveragePool LpPool",
    TEXT,
    "Windows begin at the pads, dilations count in their reach, ceil_mode adds a window that starts inside, SAME pads"
    " what the windows reach; a window larger than its padded input has no place, where onnxruntime, which divides"
    " towards zero, may find one; indices count over all planes and leave pads out.",
    "MaxPool-22, AveragePool-22, LpPool-22: the formulas of output_spatial_shape and pad_shape, output Indices",
    odd_pool,
    expected=plain.pool,
)
rule(
    "GlobalMaxPool",
    TEXT,
    "Every axis is kept; the reference evaluator does so with two spatial axes only.",
    "GlobalMaxPool-22, output Y",
    lambda case: rank(case) != 4,
    expected=plain.global_pool,
)
rule(
    "GlobalLpPool",
    TEXT,
    "The root of the sum of powers over all spatial axes; no other engine at hand computes version 1, and types other"
    " than float32.",
    "GlobalLpPool-22 and GlobalLpPool-1",
    lambda case: case.version == 1 or elem(case) != T.FLOAT or case.opset > 21,
    expected=plain.global_pool,
)
rule(
    "MaxUnpool",
    DATA,
    "Indices are those of the tensor that was pooled, also where output_shape is larger; onnxruntime takes them as"
    " indices of the output.",
    "test_maxunpool_export_with_output_shape; onnx/reference/ops/op_max_unpool.py",
    right="reference",
)

# Convolutions

rule(
    "ConvTranspose",
    TEXT,
    "Groups split inputs and outputs, output_shape and SAME decide the pads; the reference evaluator mixes up groups.",
    "ConvTranspose-22: the equations of total_padding, attributes group, auto_pad and output_shape",
    lambda case: case.attribute("group", 1) != 1 or bool(case.attribute("output_shape")) or same(case),
    expected=plain.conv_transpose,
)
rule(
    "DeformConv",
    TEXT,
    "Places between pixels have the precision of the type; the reference evaluator has float32.",
    "DeformConv-22, type constraint T",
    lambda case: elem(case) == T.DOUBLE,
    expected=plain.deformable,
)
rule(
    "ConvInteger",
    TEXT,
    "A zero point for every channel works with any number of axes; onnxruntime refuses, the reference evaluator"
    " takes two"
    " spatial axes for granted.",
    "ConvInteger-10, inputs x and w_zero_point",
    channel_parameters,
    right="numpy",
)
rule(
    "QLinearConv",
    TEXT,
    "Scales and zero points of channels work with any number of axes; the reference evaluator takes two spatial axes"
    " for"
    " granted.",
    "QLinearConv-10, inputs x, w_scale and w_zero_point",
    channel_parameters,
    right="numpy",
)

# Products

rule(
    "MatMulInteger",
    TEXT,
    "A vector of zero points of the left factor has one for every row; the reference evaluator broadcasts it over"
    " columns, onnxruntime refuses.",
    "MatMulInteger-10, input a_zero_point",
    lambda case: by_rows(case, 2),
    right="numpy",
)
rule(
    "QLinearMatMul",
    TEXT,
    "Scales of the left factor go by rows, and scales of one element add no axes to products of vectors; no other"
    " engine"
    " at hand computes float8.",
    "QLinearMatMul-21, inputs a_scale and a_zero_point; output y has the rank of numpy.matmul",
    lambda case: by_rows(case, 1) or elem(case) in FLOAT8 or 1 in (rank(case), rank(case, 3)),
    right="numpy",
)
rule(
    "Gemm",
    TEXT,
    "Before version 7 C is scaled by beta also without broadcast; the reference evaluator does not.",
    "Gemm-6: Y = alpha * A * B + beta * C",
    lambda case: case.version < 7,
    expected=plain.gemm,
)
rule(
    "MatMul Gemm MatMulInteger QLinearMatMul",
    REFERENCE,
    "A product over no elements is 0; onnxruntime leaves its memory as it was, or leaves beta out.",
    "numpy.matmul, which the text of MatMul names",
    empty_sum,
    right="reference",
)
rule(
    "Det",
    TEXT,
    "The determinant has the type of the matrix; the reference evaluator gives float64 for bfloat16, onnxruntime does"
    " not compute it.",
    "Det-22, output Y",
    lambda case: elem(case) == T.BFLOAT16,
    expected=plain.determinant,
)

# Normalizations

rule(
    "Softmax LogSoftmax Hardmax",
    TEXT,
    "Before version 13 they work on the rows of a matrix; the reference evaluator works on one axis in every version.",
    "Softmax-11: the input is coerced into 2D",
    lambda case: case.version < 13,
    expected=plain.softmax_of_rows,
)
rule(
    "LogSoftmax",
    TEXT,
    "The logarithm of a softmax is finite where a softmax vanishes in its type; the reference evaluator takes the"
    " logarithm of 0.",
    "LogSoftmax-13: the log of softmax values; its function body goes by x - max - log(sum)",
    vanishes,
    expected=plain.softmax_of_rows,
)
rule(
    "LRN",
    TEXT,
    "Squares are summed around every channel; the reference evaluator does so for as many channels as the batch has"
    " images, onnxruntime takes odd sizes only.",
    "LRN-13: square_sum over max(0, c - floor((size - 1) / 2)) to min(C - 1, c + ceil((size - 1) / 2))",
    expected=plain.local_response,
)
rule(
    "LpNormalization",
    TEXT,
    "The norm of order 1 sums magnitudes; the reference evaluator sums signed numbers.",
    "LpNormalization-22: the Lp-norm",
    lambda case: case.attribute("p", 2) == 1,
    expected=plain.lp_normalization,
)
rule(
    "MeanVarianceNormalization",
    TEXT,
    "The deviation is the root of the mean square of what is left after the mean, and an epsilon of 1e-9 is added,"
    " so that of"
    " equal numbers the result is 0; the oracles take the difference of two means, which cancels, and onnxruntime"
    " gives NaN."
    " The function body, with constants of float32, computes no other type.",
    "MeanVarianceNormalization-13: (X-EX)/sqrt(E(X-EX)^2); the epsilon is that of the function body",
    odd_variance,
    expected=plain.mean_variance,
)
rule(
    "GroupNormalization",
    TEXT,
    "The variance is the mean square of what is left after the mean; both oracles take the difference of two means,"
    " which"
    " cancels where the mean is large beside the deviation.",
    "GroupNormalization-21: (x - mean) / sqrt(variance + epsilon)",
    cancels_in_groups,
    expected=plain.group_normalization,
)
rule(
    "BatchNormalization",
    TEXT,
    "Before version 14 the given mean and variance are used in test mode; the reference evaluator trains in versions 7"
    " to 13 and knows neither version 1 nor spatial=0.",
    "BatchNormalization-9, -7, -6 and -1: output case #2, attributes is_test and spatial",
    lambda case: case.version < 14 or mixed(case),
    expected=plain.batch_normalization,
)
rule(
    "RMSNormalization",
    TEXT,
    "The scale may have another type, which is that of the output; neither the reference evaluator nor onnxruntime"
    " computes it.",
    "RMSNormalization-23, type constraints T and V",
    mixed,
    expected=plain.rms_normalization,
)
rule(
    "InstanceNormalization",
    TEXT,
    "Version 1 is computed as version 6; neither the reference evaluator nor onnxruntime computes it.",
    "InstanceNormalization-1",
    lambda case: case.version == 1,
    expected=plain.instance_normalization,
)

# Attention

rule(
    "Attention",
    TEXT,
    "The causal frontier and windows move by the cache, a mask is added, output 3 is what its mode says, and a query"
    " that"
    " sees nothing gives 0.",
    "Attention-25: offset, left_window_size and right_window_size, fully masked rows, qk_matmul_output_mode",
    odd_attention,
    expected=attention,
)
rule(
    "LinearAttention",
    TEXT,
    "The state may have another type; neither the reference evaluator nor onnxruntime computes it.",
    "LinearAttention-27, type constraints T and S",
    lambda case: len({info.type.tensor_type.elem_type for info in case.outputs}) > 1,
    expected=linear_attention,
)

# Recurrent layers

rule(
    "RNN GRU LSTM",
    TEXT,
    "layout 1, versions before 7, and types that onnxruntime does not have are computed by the same equations; the"
    " reference evaluator leaves activations, clip, input_forget and sequence_lens out of account.",
    "LSTM-22, GRU-22, RNN-22: equations and attributes",
    lambda case: own_recurrence(case) and not (bare_recurrence(case) and case.version >= 7),
    expected=recurrent,
)
rule(
    "RNN GRU LSTM",
    TEXT,
    "alpha of ThresholdedRelu is 1 by default, as for the operator, Softplus does not overflow, and a sequence without"
    " elements leaves the state as it was; onnxruntime says 0 for alpha and for the state.",
    "LSTM-22, attribute activation_alpha (defaults are those of the ONNX operators) and input sequence_lens",
    odd_recurrence,
    expected=recurrent,
)
rule(
    "RNN GRU LSTM",
    ONNXRUNTIME,
    "activations, clip, input_forget and sequence_lens count, and clip bounds what goes into the activations of the"
    " gates, not"
    " the cell state of an LSTM on its way to the last activation; the reference evaluator leaves them out of account.",
    "LSTM-22, attribute clip: the input of activations, where the equations clip nothing; onnxruntime's"
    " deepcpu_lstm.cc clips the gates",
    lambda case: not bare_recurrence(case),
    right="onnxruntime",
)

# Losses, signals

rule(
    "NegativeLogLikelihoodLoss",
    TEXT,
    "The mean is over what is not ignored, also with ignore_index -1.",
    "NegativeLogLikelihoodLoss-22, attribute ignore_index",
    lambda case: case.attribute("ignore_index") == -1,
    expected=plain.negative_log_likelihood,
)
rule(
    "DFT",
    REFERENCE,
    "Half a spectrum that is shorter or longer than dft_length needs is cut or padded; onnxruntime reads beyond.",
    "DFT-20, input dft_length; onnx/reference/ops/op_dft.py",
    lambda case: bool(case.attribute("inverse", 0) and case.attribute("onesided", 0)),
    right="reference",
)

# Images

rule(
    "AffineGrid",
    REFERENCE,
    "With align_corners an extent of 1 has its only point at -1; onnxruntime gives NaN or other points.",
    "onnx/reference/ops/op_affine_grid.py, construct_original_grid",
    lambda case: bool(case.attribute("align_corners", 0)) and 1 in np.ravel(case.operand(1))[2:],
    expected=affine_grid,
)
rule(
    "Col2Im",
    REFERENCE,
    "One or three spatial axes work for all channels; onnxruntime is wrong beyond the first.",
    "Col2Im-18: rearranges column blocks back into an image; onnx/reference/ops/op_col2im.py",
    lambda case: np.size(case.operand(1)) != 2,
    right="reference",
)
rule(
    "GridSample",
    ONNXRUNTIME,
    "Cubic samples beyond a border draw on border elements one by one; the reference evaluator moves the point to"
    " the border.",
    "GridSample-22, padding_mode border: out-of-bound locations take border values; so does PyTorch, which the text"
    " names",
    lambda case: case.attribute("mode", "") in ("cubic", "bicubic") and case.attribute("padding_mode", "") == "border",
    right="onnxruntime",
)
rule(
    "GridSample",
    ONNXRUNTIME,
    "Of strings empty ones stand for zeros; the reference evaluator puts the text 0.",
    "the text of GridSample-22 speaks of zeros only; Pad-25 names the empty string as the zero of strings",
    lambda case: np.asarray(case.operand(0)).dtype == object,
    expected=oracles.run_coded,
)
rule(
    "Resize",
    DATA,
    "length_resized of pytorch_half_pixel and tf_crop_and_resize is the output's extent, a whole number; where it is"
    " 1 the"
    " point lies at 0, or in the middle of the region. The reference evaluator takes the extent before it was rounded.",
    "test_resize_downsample_sizes_cubic and test_resize_tf_crop_and_resize; PyTorch, whose rule it is, has whole"
    " extents",
    whole_lengths,
    expected=resize,
)
rule(
    "Resize",
    TEXT,
    "tf_crop_and_resize takes extrapolation_value outside of the image in every mode.",
    "Resize-19, attribute extrapolation_value",
    lambda case: transform(case) == "tf_crop_and_resize" and is_plain(case),
    expected=resize,
)
rule(
    "Resize",
    DATA,
    "length_resized of align_corners is the extent before it was rounded; onnxruntime divides by the rounded one.",
    "test_resize_downsample_scales_linear_align_corners and test_resize_upsample_scales_linear_align_corners",
    lambda case: transform(case) == "align_corners",
    right="reference",
)
rule(
    "Resize",
    TEXT,
    "keep_aspect_ratio_policy works with axes that are counted from the end, and complex numbers keep both parts.",
    "Resize-19, attributes axes and keep_aspect_ratio_policy, type constraint T1",
    odd_resize,
    expected=resize,
)
rule(
    "Resize",
    REFERENCE,
    "int8 with antialias keeps its sign; onnxruntime saturates at 0.",
    "Resize-18, type constraint T1; onnx/reference/ops/op_resize.py",
    lambda case: elem(case) == T.INT8 and bool(case.attribute("antialias", 0)),
    right="reference",
)
rule(
    "RoiAlign",
    TEXT,
    "Version 10 has no half-pixel shift; the reference evaluator shifts in every version.",
    "RoiAlign-10; RoiAlign-16, coordinate_transformation_mode output_half_pixel is the behaviour of earlier versions",
    lambda case: case.version == 10,
    right="onnxruntime",
)
rule(
    "MaxRoiPool",
    ONNXRUNTIME,
    "Types other than float32 and version 22 are computed as float32 is; the reference evaluator does not compute it.",
    "onnxruntime's roi_pool.cc",
    lambda case: elem(case) != T.FLOAT or case.opset > 21,
    expected=max_roi_pool,
)
rule(
    "Upsample",
    ONNXRUNTIME,
    "An element comes from its place divided by the scale, rounded down; the reference evaluator computes whole"
    " scales of"
    " images only, onnxruntime few types and not version 1.",
    "Upsample-9: output_dimension = floor(input_dimension * scale); onnxruntime's upsample.cc",
    expected=old_resize,
)
rule(
    "Resize",
    ONNXRUNTIME,
    "Version 10 rounds coordinates of the nearest element up where an axis shrinks and down where it grows; the"
    " reference"
    " evaluator does not compute it, onnxruntime computes few types.",
    "onnxruntime's upsample.cc; the text of Resize-10 does not say",
    lambda case: case.version == 10,
    expected=old_resize,
)

# Training

rule(
    "Adagrad Adam Momentum",
    TEXT,
    "Tensors keep their type whatever the type of the rate; the reference evaluator gives the type of the rate, and"
    " float32 for several tensors of Adam.",
    "Adagrad-1, Adam-1, Momentum-1, type constraints T1 and T3",
    lambda case: mixed(case) or elem(case) == T.DOUBLE,
    expected=optimizer,
    domain="ai.onnx.preview.training",
)
