"""Activations, products, convolutions and normalizations."""

from __future__ import annotations

import numpy as np

from ..case import Case, generator


@generator("Gelu", "QuickGelu", domain="com.microsoft")
def unary(case: Case) -> None:
    dtype = case.float_type(0 if case.op == "Gelu" else 0.2)
    x = case.floats(case.shape(case.size(0, 4), 0, 7), 2)
    alpha = {"alpha": float(case.rng.uniform(0.5, 2))} if case.op == "QuickGelu" and case.chance() else {}
    case.node([case.input(x)], [dtype], **alpha)


@generator("BiasGelu", "FastGelu", domain="com.microsoft")
def biased(case: Case) -> None:
    shape = case.shape(case.size(1, 4))
    if case.op == "FastGelu":
        case.float_type()
    bias = case.floats(shape[-1:]) if case.op == "BiasGelu" or case.chance() else None
    case.node([case.input(case.floats(shape, 2)), case.input(bias, 0.5)], [case.dtype])


@generator("FusedMatMul", "TransposeMatMul", domain="com.microsoft")
def fused_matmul(case: Case) -> None:
    dtype = case.pick(np.float32, np.float32, np.float64) if case.op == "FusedMatMul" else np.float32
    case.dtype = dtype
    batch = case.shape(case.size(0, 2), 1, 4)
    m, n, k = case.shape(3, 1, 9)
    attributes = {"transA": case.size(0, 1), "transB": case.size(0, 1), "alpha": case.pick(1.0, 0.5, None)}
    a = [k, m] if attributes["transA"] else [m, k]
    b = [n, k] if attributes["transB"] else [k, n]
    left = batch + a
    right = (batch if case.chance() else []) + b
    if case.op == "FusedMatMul" and len(batch) > 0 and len(right) == len(left) and case.chance():
        if case.chance():
            attributes["transBatchA"] = 1
            left = [a[0]] + batch + [a[1]]
        if case.chance():
            attributes["transBatchB"] = 1
            right = [b[0]] + batch + [b[1]]
    case.node([case.input(case.floats(left)), case.input(case.floats(right), 0.5)], [dtype], **attributes)


ACTIVATIONS = {
    "Relu": {},
    "Tanh": {},
    "Sigmoid": {},
    "LeakyRelu": {"activation_alpha": 0.2},
    "Elu": {"activation_alpha": 0.7},
    "HardSigmoid": {"activation_alpha": 0.3, "activation_beta": 0.4},
    "Softplus": {},
    "Softsign": {},
    "ThresholdedRelu": {"activation_alpha": 0.5},
    "Selu": {"activation_alpha": 1.5, "activation_gamma": 1.1},
}


@generator("FusedGemm", domain="com.microsoft")
def fused_gemm(case: Case) -> None:
    m, n, k = case.shape(3, 1, 9)
    trans_a, trans_b = case.size(0, 1), case.size(0, 1)
    c = case.pick(None, [n], [m, n], [1, n], [m, 1], [1])
    activation = case.pick(*ACTIVATIONS)
    case.node(
        [
            case.input(case.floats([k, m] if trans_a else [m, k])),
            case.input(case.floats([n, k] if trans_b else [k, n]), 0.7),
            case.input(None if c is None else case.floats(c), 0.7),
        ],
        [np.float32],
        transA=trans_a,
        transB=trans_b,
        alpha=case.pick(None, 0.5),
        beta=case.pick(None, 2.0),
        activation=activation,
        **ACTIVATIONS[activation],
    )


def convolution(case: Case, channels_last: bool = False) -> tuple[np.ndarray, np.ndarray, int, dict]:
    """Input, weight (OIHW), output channels and the attributes of a convolution."""
    axes = case.pick(1, 2, 2, 3) if not channels_last else 2
    group = case.pick(1, 1, 2)
    channels, outputs = group * case.size(1, 4), group * case.size(1, 4)
    kernel = case.shape(axes, 1, 3)
    spatial = [case.size(7, 10) for _ in range(axes)]
    attributes: dict = {"kernel_shape": kernel, "group": group}
    if case.chance():
        attributes["strides"] = case.shape(axes, 1, 2)
    if case.chance(0.4):
        attributes["dilations"] = case.shape(axes, 1, 2)
    if case.chance():
        attributes["pads"] = case.shape(2 * axes, 0, 1)
    elif case.chance(0.3) and "dilations" not in attributes:
        attributes["auto_pad"] = case.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    batch = case.size(1, 2)
    x = [batch] + (spatial + [channels] if channels_last else [channels] + spatial)
    return case.floats(x), case.floats([outputs, channels // group] + kernel, 0.4), outputs, attributes


@generator("FusedConv", domain="com.microsoft")
def fused_conv(case: Case) -> None:
    x, w, outputs, attributes = convolution(case)
    activation = case.pick("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip", "HardSigmoid")
    params = {"LeakyRelu": [0.2], "Clip": [-0.5, 0.8], "HardSigmoid": [0.3, 0.4]}.get(activation)
    bias = case.floats([outputs]) if case.chance() else None
    case.node(
        [case.input(x), case.input(w, 0.8), case.input(bias, 0.8)],
        [np.float32],
        activation=activation,
        activation_params=params,
        **attributes,
    )


@generator("NhwcMaxPool", domain="com.microsoft")
def nhwc_max_pool(case: Case) -> None:
    dtype = case.pick(np.int8, np.uint8)
    _, _, _, attributes = convolution(case, channels_last=True)
    attributes.pop("group")
    x = case.quantized([case.size(1, 2), case.size(7, 10), case.size(7, 10), case.size(1, 20)], dtype)
    # onnxruntime rounds up what VALID leaves over, which the specification of MaxPool does not.
    ceil = case.pick(None, 0, 1) if attributes.get("auto_pad") != "VALID" else None
    case.node([case.input(x)], [dtype], ceil_mode=ceil, **attributes)


@generator("ConvTransposeWithDynamicPads", domain="com.microsoft")
def conv_transpose(case: Case) -> None:
    axes = 2
    channels, outputs = case.size(1, 4), case.size(1, 4)
    kernel = case.shape(axes, 2, 4)
    case.node(
        [
            case.input(case.floats([case.size(1, 2), channels] + case.shape(axes, 3, 6))),
            case.input(case.floats([channels, outputs] + kernel), 0.8),
            case.input(case.integers([2 * axes], 0, 2), 0.5) if case.chance(0.8) else "",
            case.input(case.floats([outputs]), 0.8) if case.chance() else "",
        ],
        [np.float32],
        strides=case.shape(axes, 1, 3),
        kernel_shape=kernel,
    )


@generator("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_layer_norm(case: Case) -> None:
    dtype = case.float_type()
    batch, length, hidden = case.size(1, 3), case.size(1, 5), case.size(1, 33)
    shape = [batch, length, hidden] if case.chance(0.7) else [batch * length, hidden]
    skip = case.pick(shape, shape, [1, length, hidden], [length, hidden]) if len(shape) == 3 else shape
    gamma = case.input(case.floats([hidden]), 0.8)
    beta = [case.input(case.floats([hidden]) if case.chance(0.7) else None, 0.8)] if "Simplified" not in case.op else []
    bias = case.input(case.floats([hidden]) if case.chance() else None, 0.8)
    outputs = [dtype] + ([None, None, dtype] if case.chance() else [])
    case.node(
        [case.input(case.floats(shape)), case.input(case.floats(skip)), gamma] + beta + [bias],
        outputs,
        epsilon=case.pick(None, 1e-5, 1e-2),
    )


@generator("SimplifiedLayerNormalization")
def simplified_layer_norm(case: Case) -> None:
    dtype = case.pick(np.float32, np.float32, np.float64)
    case.dtype = dtype
    rank = case.size(1, 4)
    shape = case.shape(rank, 1, 9)
    axis = case.size(-rank, rank - 1)
    scale = case.floats(shape[axis % rank :])
    outputs = [dtype] + ([dtype] if case.chance(0.4) else [])
    case.node(
        [case.input(case.floats(shape)), case.input(scale, 0.8)],
        outputs,
        axis=axis,
        epsilon=case.pick(None, 1e-3),
        stash_type=1 if dtype != np.float64 else 11,
    )


@generator("EmbedLayerNormalization", domain="com.microsoft")
def embed_layer_norm(case: Case) -> None:
    dtype = case.float_type()
    batch, length, hidden = case.size(1, 3), case.size(1, 6), case.size(2, 20)
    ids = case.integers([batch, length], 0, 11, np.int32)
    segments = case.integers([batch, length], 0, 2, np.int32) if case.chance(0.7) else None
    mask = case.integers([batch, length], 0, 2, np.int32) if case.chance() else None
    positions = case.integers([batch, length], 0, 9, np.int32) if case.chance(0.3) else None
    inputs = [
        case.input(ids),
        case.input(segments),
        case.input(case.floats([11, hidden]), True),
        case.input(case.floats([9, hidden]), True),
        case.input(case.floats([2, hidden]) if segments is not None else None, True),
        case.input(case.floats([hidden]), True),
        case.input(case.floats([hidden]), True),
        case.input(mask),
        case.input(positions),
    ]
    outputs = [dtype, np.int32] + ([dtype] if case.chance() else [])
    case.node(inputs, outputs, epsilon=case.pick(None, 1e-3))
