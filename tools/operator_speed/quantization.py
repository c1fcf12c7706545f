"""From floats to bytes and back, and element-wise work on bytes."""

from __future__ import annotations

from functools import partial

from operator_speed.case import Case, draw, f32, fixed, one

MICROSOFT = "com.microsoft"
CASE = partial(one, family="quantization", tolerance=0.01)
SIZES = {"98k": (1, 128, 768), "803k": (1, 64, 112, 112)}


def scale() -> object:
    return fixed("f32", low=0.02, high=0.03)


def zero(type: str) -> object:
    return fixed(type, low=120, high=130) if type == "u8" else fixed(type, low=-5, high=5)


def conversions() -> list[Case]:
    found = []
    for size, shape in SIZES.items():
        for type in ("u8", "s8"):
            found.append(CASE("QuantizeLinear", size, [f32(*shape), scale(), zero(type)], type=type))
            found.append(CASE("DequantizeLinear", size, [draw(type, *shape), scale(), zero(type)], type=type))
        found.append(CASE("DynamicQuantizeLinear", size, [f32(*shape)], type="u8", outputs=3))
    per_axis = fixed("f32", 64, low=0.02, high=0.03)
    image = (1, 64, 112, 112)
    found += [
        CASE("QuantizeLinear", "axis 1 803k", [f32(*image), per_axis, fixed("u8", 64)], type="u8", axis=1),
        CASE("DequantizeLinear", "axis 1 803k", [draw("s8", *image), per_axis, fixed("s8", 64)], type="s8", axis=1),
        CASE("DequantizeLinear", "98k", [draw("i32", 1, 128, 768), scale()], type="i32"),
        CASE(
            "QuantizeLinear",
            "f16 98k",
            [draw("f16", 1, 128, 768), fixed("f16", low=0.02, high=0.03), zero("u8")],
            type="u8",
        ),
    ]
    return found


def pointwise() -> list[Case]:
    found = []
    for size, shape in SIZES.items():
        for type in ("u8", "s8"):
            quantized = [draw(type, *shape), scale(), zero(type)]
            result = [scale(), zero(type)]
            for operator in ("QLinearAdd", "QLinearMul"):
                found.append(CASE(operator, size, [*quantized, *quantized, *result], type=type, domain=MICROSOFT))
            if type == "s8":
                continue
            found += [
                CASE("QLinearSigmoid", size, [*quantized, *result], type=type, domain=MICROSOFT),
                CASE("QLinearLeakyRelu", size, [*quantized, *result], type=type, domain=MICROSOFT, alpha=0.1),
                CASE("QLinearConcat", size, [*result, *quantized, *quantized], type=type, domain=MICROSOFT, axis=1),
            ]
    image = [draw("u8", 1, 64, 56, 56), scale(), zero("u8")]
    result = [scale(), zero("u8")]
    found += [
        CASE(
            "QLinearAveragePool",
            "3x3 64 56",
            [*image, *result],
            type="u8",
            domain=MICROSOFT,
            kernel_shape=[3, 3],
            pads=[1] * 4,
        ),
        CASE("QLinearGlobalAveragePool", "64 56", [*image, *result], type="u8", domain=MICROSOFT, channels_last=0),
        CASE(
            "QLinearSoftmax",
            "12x128x128",
            [
                draw("u8", 12, 128, 128),
                scale(),
                zero("u8"),
                fixed("f32", low=0.0039, high=0.004),
                fixed("u8", low=0, high=1),
            ],
            type="u8",
            domain=MICROSOFT,
            axis=-1,
            opset=13,
        ),
        CASE(
            "QLinearWhere",
            "98k",
            [
                draw("bool", 1, 128, 768),
                draw("u8", 1, 128, 768),
                scale(),
                zero("u8"),
                draw("u8", 1, 128, 768),
                scale(),
                zero("u8"),
                *result,
            ],
            type="u8",
            domain=MICROSOFT,
        ),
    ]
    return found


def cases() -> list[Case]:
    return conversions() + pointwise()
