"""Normalizations: of batches, instances, layers, groups, and those joined with a sum."""

from __future__ import annotations

from functools import partial

from operator_speed.case import Case, draw, f32, fixed, one, weight

MICROSOFT = "com.microsoft"
CASE = partial(one, family="normalization")


def gains(type: str, *shape: int) -> object:
    return fixed(type, *shape, low=0.5, high=1.5)


def layers() -> list[Case]:
    found = []
    for size, shape in {"128x768": (1, 128, 768), "3136x96": (1, 3136, 96), "1x4096": (1, 1, 4096)}.items():
        width = shape[-1]
        scale, bias = gains("f32", width), fixed("f32", width)
        found += [
            CASE("LayerNormalization", size, [f32(*shape), scale, bias]),
            CASE("SimplifiedLayerNormalization", size, [f32(*shape), scale], axis=-1, epsilon=1e-6),
            CASE("RMSNormalization", size, [f32(*shape), scale], version=23),
            CASE("SkipLayerNormalization", size, [f32(*shape), f32(*shape), scale, bias], domain=MICROSOFT),
            CASE(
                "SkipSimplifiedLayerNormalization",
                size,
                [f32(*shape), f32(*shape), scale],
                domain=MICROSOFT,
                outputs=["y0", "", "", "y3"],
            ),
        ]
    halves = [draw("f16", 1, 128, 768), gains("f16", 768), fixed("f16", 768)]
    found.append(CASE("LayerNormalization", "128x768", halves, type="f16"))
    inputs = [
        draw("i32", 1, 128, low=0, high=3000),
        draw("i32", 1, 128, low=0, high=2),
        weight(3000, 768),
        weight(512, 768),
        weight(2, 768),
        gains("f32", 768),
        weight(768),
        draw("i32", 1, 128, low=1, high=2),
    ]
    found.append(CASE("EmbedLayerNormalization", "128x768", inputs, domain=MICROSOFT, outputs=2))
    return found


def images() -> list[Case]:
    found = []
    for size, shape in {"64x112x112": (1, 64, 112, 112), "256x28x28": (1, 256, 28, 28)}.items():
        channels = shape[1]
        scale, bias = gains("f32", channels), fixed("f32", channels)
        found += [
            CASE(
                "BatchNormalization", size, [f32(*shape), scale, bias, fixed("f32", channels), gains("f32", channels)]
            ),
            CASE("InstanceNormalization", size, [f32(*shape), scale, bias]),
            CASE("GroupNormalization", size, [f32(*shape), scale, bias], num_groups=32),
        ]
    found += [
        CASE("LpNormalization", "128x768", [f32(128, 768)], axis=-1, p=2),
        CASE("LpNormalization", "channels 64x56x56", [f32(1, 64, 56, 56)], axis=1, p=2),
        CASE("MeanVarianceNormalization", "64x56x56", [f32(1, 64, 56, 56)]),
        CASE("LRN", "64x55x55", [f32(1, 64, 55, 55)], size=5, alpha=1e-4, beta=0.75, bias=2.0),
    ]
    return found


def cases() -> list[Case]:
    return layers() + images()
