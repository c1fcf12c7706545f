"""Convolutions and transposed ones in every form that networks have."""

from __future__ import annotations

from functools import partial
from typing import Any

from operator_speed.case import Case, Input, Node, draw, f32, fixed, one, retyped, several, weight

# Size, input shape, weight shape, attributes.
CONVOLUTIONS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("stem 7x7 s2 224", (1, 3, 224, 224), (64, 3, 7, 7), {"strides": [2, 2], "pads": [3] * 4}),
    ("stem 3x3 s2 224", (1, 3, 224, 224), (32, 3, 3, 3), {"strides": [2, 2], "pads": [1] * 4}),
    ("first 3x3 3 to 64 224", (1, 3, 224, 224), (64, 3, 3, 3), {"pads": [1] * 4}),
    ("patch 16x16 s16", (1, 3, 224, 224), (768, 3, 16, 16), {"strides": [16, 16]}),
    ("1x1 16 to 96 112", (1, 16, 112, 112), (96, 16, 1, 1), {}),
    ("1x1 96 to 24 56", (1, 96, 56, 56), (24, 96, 1, 1), {}),
    ("1x1 64 to 256 56", (1, 64, 56, 56), (256, 64, 1, 1), {}),
    ("1x1 256 to 64 56", (1, 256, 56, 56), (64, 256, 1, 1), {}),
    ("1x1 512 to 2048 7", (1, 512, 7, 7), (2048, 512, 1, 1), {}),
    ("1x1 s2 256 to 512 56", (1, 256, 56, 56), (512, 256, 1, 1), {"strides": [2, 2]}),
    ("1x1 960 to 160 7", (1, 960, 7, 7), (160, 960, 1, 1), {}),
    ("3x3 16 256", (1, 16, 256, 256), (16, 16, 3, 3), {"pads": [1] * 4}),
    ("3x3 32 128", (1, 32, 128, 128), (32, 32, 3, 3), {"pads": [1] * 4}),
    ("3x3 64 56", (1, 64, 56, 56), (64, 64, 3, 3), {"pads": [1] * 4}),
    ("3x3 128 28", (1, 128, 28, 28), (128, 128, 3, 3), {"pads": [1] * 4}),
    ("3x3 256 14", (1, 256, 14, 14), (256, 256, 3, 3), {"pads": [1] * 4}),
    ("3x3 512 7", (1, 512, 7, 7), (512, 512, 3, 3), {"pads": [1] * 4}),
    ("3x3 64 56 of 8", (8, 64, 56, 56), (64, 64, 3, 3), {"pads": [1] * 4}),
    ("3x3 s2 128 56", (1, 128, 56, 56), (128, 128, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
    ("5x5 32 to 64 28", (1, 32, 28, 28), (64, 32, 5, 5), {"pads": [2] * 4}),
    ("3x3 dilated 2 64 56", (1, 64, 56, 56), (64, 64, 3, 3), {"pads": [2] * 4, "dilations": [2, 2]}),
    ("1x7 128 17", (1, 128, 17, 17), (128, 128, 1, 7), {"pads": [0, 3, 0, 3]}),
    ("3x3 64 to 2 128", (1, 64, 128, 128), (2, 64, 3, 3), {"pads": [1] * 4}),
    ("depthwise 3x3 32 112", (1, 32, 112, 112), (32, 1, 3, 3), {"pads": [1] * 4, "group": 32}),
    ("depthwise 3x3 144 56", (1, 144, 56, 56), (144, 1, 3, 3), {"pads": [1] * 4, "group": 144}),
    ("depthwise 3x3 s2 96 112", (1, 96, 112, 112), (96, 1, 3, 3), {"pads": [1] * 4, "strides": [2, 2], "group": 96}),
    ("depthwise 5x5 240 28", (1, 240, 28, 28), (240, 1, 5, 5), {"pads": [2] * 4, "group": 240}),
    ("depthwise 5x5 s2 72 56", (1, 72, 56, 56), (72, 1, 5, 5), {"pads": [2] * 4, "strides": [2, 2], "group": 72}),
    ("depthwise 7x7 96 56", (1, 96, 56, 56), (96, 1, 7, 7), {"pads": [3] * 4, "group": 96}),
    ("depthwise 3x3 960 7", (1, 960, 7, 7), (960, 1, 3, 3), {"pads": [1] * 4, "group": 960}),
    ("depthwise multiplier 2 3x3 32 56", (1, 32, 56, 56), (64, 1, 3, 3), {"pads": [1] * 4, "group": 32}),
    ("grouped 32 3x3 128 56", (1, 128, 56, 56), (128, 4, 3, 3), {"pads": [1] * 4, "group": 32}),
    ("grouped 4 1x1 240 28", (1, 240, 28, 28), (240, 60, 1, 1), {"group": 4}),
    ("1d 3 80 to 384 of 1000", (1, 80, 1000), (384, 80, 3), {"pads": [1, 1]}),
    ("1d 5 256 of 200", (1, 256, 200), (256, 256, 5), {"pads": [2, 2]}),
    ("1d depthwise 31 256 of 200", (1, 256, 200), (256, 1, 31), {"pads": [15, 15], "group": 256}),
    ("3d 3x3x3 3 to 32 16 56", (1, 3, 16, 56, 56), (32, 3, 3, 3, 3), {"pads": [1] * 6}),
    ("3d 3x3x3 32 8 28", (1, 32, 8, 28, 28), (32, 32, 3, 3, 3), {"pads": [1] * 6}),
]
HALVES = {"1x1 64 to 256 56", "3x3 64 56", "depthwise 3x3 144 56", "stem 7x7 s2 224"}
INTEGERS = {
    "stem 7x7 s2 224",
    "1x1 64 to 256 56",
    "1x1 96 to 24 56",
    "3x3 64 56",
    "3x3 256 14",
    "3x3 s2 128 56",
    "depthwise 3x3 144 56",
    "depthwise 5x5 240 28",
    "grouped 32 3x3 128 56",
    "1d 5 256 of 200",
}
TRANSPOSED: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("2x2 s2 64 to 32 64", (1, 64, 64, 64), (64, 32, 2, 2), {"strides": [2, 2]}),
    ("2x2 s2 256 to 128 16", (1, 256, 16, 16), (256, 128, 2, 2), {"strides": [2, 2]}),
    ("4x4 s2 64 to 32 64", (1, 64, 64, 64), (64, 32, 4, 4), {"strides": [2, 2], "pads": [1] * 4}),
    ("4x4 s2 512 to 256 8", (1, 512, 8, 8), (512, 256, 4, 4), {"strides": [2, 2], "pads": [1] * 4}),
    ("4x4 s2 64 to 3 64", (1, 64, 64, 64), (64, 3, 4, 4), {"strides": [2, 2], "pads": [1] * 4}),
    ("3x3 s1 64 to 64 56", (1, 64, 56, 56), (64, 64, 3, 3), {"pads": [1] * 4}),
    (
        "3x3 s2 128 to 64 28",
        (1, 128, 28, 28),
        (128, 64, 3, 3),
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]},
    ),
    ("depthwise 4x4 s2 64 56", (1, 64, 56, 56), (64, 1, 4, 4), {"strides": [2, 2], "pads": [1] * 4, "group": 64}),
    ("1d 16 s8 128 to 64 of 200", (1, 128, 200), (128, 64, 16), {"strides": [8], "pads": [4, 4]}),
    ("3d 2x2x2 s2 32 to 16 8 28", (1, 32, 8, 28, 28), (32, 16, 2, 2, 2), {"strides": [2, 2, 2]}),
]
CONV = partial(one, family="convolution")


def floats() -> list[Case]:
    found = []
    for size, x, w, attributes in CONVOLUTIONS:
        inputs: list[Input] = [f32(*x), weight(*w), weight(w[0])]
        found.append(CONV("Conv", size, inputs, **attributes))
        if size in HALVES:
            inputs = [retyped(value, "f16") for value in inputs]
            found.append(CONV("Conv", size, inputs, type="f16", tolerance=2e-2, **attributes))
    for size, x, w, attributes in TRANSPOSED:
        inputs = [f32(*x), weight(*w), weight(w[1] * attributes.get("group", 1))]
        found.append(one("ConvTranspose", size, inputs, family="transposed convolution", **attributes))
    for activation in ("Relu", "Sigmoid"):
        attributes = {"pads": [1] * 4, "activation": activation}
        inputs = [f32(1, 64, 56, 56), weight(64, 64, 3, 3), weight(64)]
        found.append(CONV("FusedConv", f"{activation} 3x3 64 56", inputs, domain="com.microsoft", **attributes))
    inputs = [f32(1, 64, 28, 28), weight(64, 64, 3, 3), f32(1, 18, 28, 28, low=-1, high=1)]
    found.append(CONV("DeformConv", "3x3 64 28", inputs, pads=[1] * 4, kernel_shape=[3, 3]))
    return found


def silu() -> list[Case]:
    nodes = [
        Node("Conv", ["x0", "x1", "x2"], ["c"]),
        Node("Sigmoid", ["c"], ["s"]),
        Node("Mul", ["c", "s"], ["y"]),
    ]
    inputs = [f32(1, 16, 112, 112), weight(96, 16, 1, 1), weight(96)]
    return [several("Conv and SiLU", "1x1 16 to 96 112", inputs, nodes, ["y"], family="convolution")]


def quantized() -> list[Case]:
    found = []
    case = partial(one, family="convolution", tolerance=0.01)
    for size, x, w, attributes in CONVOLUTIONS:
        if size not in INTEGERS:
            continue
        for channels in (False, True):
            scale = fixed("f32", w[0], low=0.001, high=0.002) if channels else fixed("f32", low=0.001, high=0.002)
            zero = fixed("s8", w[0], low=0, high=1) if channels else fixed("s8", low=0, high=1)
            inputs = [
                draw("u8", *x),
                fixed("f32", low=0.02, high=0.03),
                fixed("u8", low=120, high=130),
                fixed("s8", *w, low=-60, high=60),
                scale,
                zero,
                fixed("f32", low=0.05, high=0.06),
                fixed("u8", low=120, high=130),
                fixed("i32", w[0]),
            ]
            title = f"{'per channel ' if channels else ''}{size}"
            if channels or size in ("3x3 64 56", "1x1 64 to 256 56"):
                found.append(case("QLinearConv", title, inputs, type="u8", **attributes))
    for size in ("1x1 64 to 256 56", "3x3 64 56"):
        _, x, w, attributes = next(row for row in CONVOLUTIONS if row[0] == size)
        inputs = [draw("u8", *x), fixed("u8", *w), fixed("u8", low=120, high=130), fixed("u8", low=120, high=130)]
        found.append(case("ConvInteger", size, inputs, type="u8", **attributes))
        found.append(dequantized(size, x, w, attributes))
    return found


def dequantized(size: str, x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> Case:
    """A convolution between QuantizeLinear and DequantizeLinear, as quantizers write it."""
    inputs = [
        draw("u8", *x),
        fixed("f32", low=0.02, high=0.03),
        fixed("u8", low=120, high=130),
        fixed("s8", *w, low=-60, high=60),
        fixed("f32", w[0], low=0.001, high=0.002),
        fixed("s8", w[0], low=0, high=1),
        fixed("f32", low=0.05, high=0.06),
        fixed("u8", low=120, high=130),
    ]
    nodes = [
        Node("DequantizeLinear", ["x0", "x1", "x2"], ["a"]),
        Node("DequantizeLinear", ["x3", "x4", "x5"], ["b"], {"axis": 0}),
        Node("Conv", ["a", "b"], ["c"], attributes),
        Node("QuantizeLinear", ["c", "x6", "x7"], ["y"]),
    ]
    return several("QDQ Conv", size, inputs, nodes, ["y"], family="convolution", type="u8", tolerance=0.01)


def cases() -> list[Case]:
    return floats() + silu() + quantized()
