"""Convolutions: shapes, groups, padding, dilations, quantized forms."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .case import Case, generator
from .matrix import bytes_of
from .windows import Window, moderate, spatial_rank, window


def channels(case: Case) -> tuple[int, int, int]:
    """Groups, input channels, output channels; depthwise and wide ones among them."""
    kind = case.pick("plain", "plain", "groups", "depthwise", "wide")
    if case.max_extent < 64 and kind != "groups":
        kind = "plain"
    if kind == "depthwise":
        groups = case.pick(case.size(1, 9), 16, 33)
        return groups, groups, groups * case.pick(1, 1, 2)
    if kind == "wide":
        return 1, case.pick(case.size(5, 17), 32, 33), case.pick(case.size(5, 17), 48, 65)
    groups = case.size(1, 3) if kind == "groups" else 1
    return groups, groups * case.size(1, 4), groups * case.size(1, 5)


def batch(case: Case) -> int:
    return 0 if case.chance(0.03) else case.size(1, 2)


def attributes_of(case: Case, drawn: Window, groups: int) -> dict:
    attributes = dict(drawn.attributes)
    if case.chance(0.3):
        attributes["kernel_shape"] = None
    attributes["group"] = groups if groups > 1 or case.chance(0.3) else None
    return attributes


@generator("Conv")
def conv(case: Case) -> None:
    elem = case.type("T")
    groups, c, m = channels(case)
    drawn = window(case, spatial_rank(case))
    x = moderate(case, elem, [batch(case), c, *drawn.extents])
    w = moderate(case, elem, [m, c // groups, *drawn.kernel])
    bias = moderate(case, elem, [m]) if case.chance() else None
    inputs = [case.input(x), case.input(w, constant=0.6), case.input(bias, constant=0.6)]
    case.node(inputs, outputs=[elem], **attributes_of(case, drawn, groups))


@generator("ConvTranspose")
def conv_transpose(case: Case) -> None:
    elem = case.type("T")
    groups, c, m = channels(case)
    if c % groups or m % groups:
        groups = 1
    rank = spatial_rank(case)
    drawn = window(case, rank, automatic=False)
    drawn.extents = [case.size(1, 6 if rank < 3 else 4) for _ in range(rank)]
    attributes = attributes_of(case, drawn, groups)
    padding = [case.size(0, max(stride, dilation) - 1) for stride, dilation in zip(drawn.strides, drawn.dilations)]
    if not any(padding) or case.chance(0.5):
        padding = [0] * rank
    if any(padding) or case.chance(0.2):
        attributes["output_padding"] = padding
    whole = [
        drawn.strides[axis] * (drawn.extents[axis] - 1) + drawn.reach[axis] + padding[axis] for axis in range(rank)
    ]
    kind = case.pick("pads", "pads", "pads", "auto", "shape")
    if kind == "pads":
        for axis in range(rank):
            if whole[axis] - drawn.pads[axis] - drawn.pads[axis + rank] < 1:
                attributes["pads"] = None
    else:
        attributes["pads"] = None
        attributes["auto_pad"] = case.pick("SAME_UPPER", "SAME_LOWER", "VALID" if kind == "auto" else "NOTSET")
    if kind == "shape":
        cut = [case.size(0, min(3, extent - 1)) for extent in whole]
        attributes["output_shape"] = [extent - less for extent, less in zip(whole, cut)]
    x = moderate(case, elem, [batch(case), c, *drawn.extents])
    w = moderate(case, elem, [c, m // groups, *drawn.kernel])
    bias = moderate(case, elem, [m]) if case.chance() else None
    inputs = [case.input(x), case.input(w, constant=0.6), case.input(bias, constant=0.6)]
    case.node(inputs, outputs=[elem], **attributes)


@generator("ConvInteger")
def conv_integer(case: Case) -> None:
    x_type, w_type = case.type("T1"), case.type("T2")
    groups, c, m = channels(case)
    drawn = window(case, spatial_rank(case))
    x_zero = case.values(x_type, []) if case.chance(0.6) else None
    w_zero = None
    if case.chance(0.6):
        w_zero = case.values(w_type, [m] if case.chance(0.4) else [])
    x = bytes_of(case, x_type, [batch(case), c, *drawn.extents])
    w = bytes_of(case, w_type, [m, c // groups, *drawn.kernel])
    inputs = [case.input(x), case.input(w, constant=0.6), case.input(x_zero, constant=0.6)]
    inputs.append(case.input(w_zero, constant=0.6))
    case.node(inputs, outputs=[TensorProto.INT32], **attributes_of(case, drawn, groups))


@generator("QLinearConv")
def quantized_conv(case: Case) -> None:
    x_type, w_type = case.type("T1"), case.type("T2")
    y_type = case.type("T3", only={x_type} if case.chance(0.8) and "T3" not in case.forced else None)
    groups, c, m = channels(case)
    drawn = window(case, spatial_rank(case))
    by_channel = case.chance(0.5)
    scale_shape = [m] if by_channel else []

    def scale(shape: list[int], high: float) -> np.ndarray:
        return case.values(TensorProto.FLOAT, shape, 0.002, high)

    terms = (c // groups) * int(np.prod(drawn.kernel))
    values = [
        bytes_of(case, x_type, [batch(case), c, *drawn.extents]),
        scale([], 0.05),
        case.values(x_type, [], *middle(x_type)),
        bytes_of(case, w_type, [m, c // groups, *drawn.kernel]),
        scale(scale_shape, 0.05),
        case.values(w_type, scale_shape, *middle(w_type)),
        np.float32(case.rng.uniform(0.01, 0.1) * terms**0.5),
        case.values(y_type, [], *middle(y_type)),
        case.values(TensorProto.INT32, [m], -2000, 2000) if case.chance() else None,
    ]
    fed = case.chance(0.3)
    inputs = [case.input(values[0])] + [
        case.input(np.asarray(value) if value is not None else None, constant=not fed) for value in values[1:]
    ]
    case.node(inputs, outputs=[y_type], **attributes_of(case, drawn, groups))


def middle(elem: int) -> tuple[int, int]:
    """Zero points; those of signed weights are 0 in most models, so 0 is among them often."""
    return (100, 150) if elem == TensorProto.UINT8 else (-3, 3)


@generator("DeformConv")
def deformable(case: Case) -> None:
    elem = case.type("T")
    groups, offsets = case.size(1, 2), case.size(1, 2)
    c = groups * offsets * case.size(1, 2)
    m = groups * case.size(1, 3)
    drawn = window(case, 2, automatic=False, largest=3)
    n = case.size(1, 2)
    places = drawn.outputs()
    taps = drawn.kernel[0] * drawn.kernel[1]
    x = moderate(case, elem, [n, c, *drawn.extents])
    w = moderate(case, elem, [m, c // groups, *drawn.kernel])
    offset = moderate(case, elem, [n, offsets * taps * 2, *places])
    bias = moderate(case, elem, [m]) if case.chance() else None
    mask = case.values(elem, [n, offsets * taps, *places], 0, 1) if case.chance() else None
    attributes = attributes_of(case, drawn, groups)
    attributes.pop("auto_pad")
    attributes["offset_group"] = offsets if offsets > 1 or case.chance() else None
    inputs = [case.input(x), case.input(w, constant=0.5)] + [case.input(value) for value in (offset, bias, mask)]
    case.node(inputs, outputs=[elem], **attributes)


@generator("CausalConvWithState")
def causal_conv(case: Case) -> None:
    elem = case.type("T")
    n, c, length, taps = case.size(1, 3), case.size(1, 5), case.size(1, 7), case.size(1, 5)
    inputs = [
        case.input(moderate(case, elem, [n, c, length])),
        case.input(moderate(case, elem, [c, 1, taps]), constant=0.7),
        case.input(moderate(case, elem, [c]) if case.chance() else None, constant=0.7),
        case.input(moderate(case, elem, [n, c, taps - 1]) if case.chance() else None),
    ]
    case.node(inputs, outputs=[elem, elem], activation=case.pick(None, "none", "silu", "swish"))
