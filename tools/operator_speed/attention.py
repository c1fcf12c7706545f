"""Attention in the forms of ai.onnx and of com.microsoft, for encoders, first tokens and further ones."""

from __future__ import annotations

from functools import partial

import numpy as np

from operator_speed.case import Case, Draw, draw, f32, fixed, one, weight

MICROSOFT = "com.microsoft"
CASE = partial(one, family="attention", tolerance=1e-3)


def packed() -> list[Case]:
    found = []
    for size, length in {"1x128x768": 128, "1x64x768": 64}.items():
        inputs = [f32(1, length, 768), weight(768, 2304), weight(2304)]
        found.append(CASE("Attention", f"packed {size}", inputs, domain=MICROSOFT, num_heads=12))
    inputs = [f32(1, 128, 768), weight(768, 2304), weight(2304)]
    found.append(CASE("Attention", "causal 1x128x768", inputs, domain=MICROSOFT, num_heads=12, unidirectional=1))
    scale = fixed("f32", low=0.02, high=0.03)
    inputs = [
        draw("u8", 1, 128, 768),
        fixed("s8", 768, 2304, low=-60, high=60),
        fixed("f32", 2304),
        scale,
        fixed("f32", low=0.0005, high=0.001),
        None,
        fixed("u8", low=120, high=130),
        fixed("s8", low=0, high=1),
    ]
    found.append(CASE("QAttention", "1x128x768", inputs, domain=MICROSOFT, type="u8", num_heads=12))
    return found


def separate() -> list[Case]:
    found = []
    for size, batch, queries, keys in [
        ("1x128x768", 1, 128, 128),
        ("8x128x768", 8, 128, 128),
        ("1x512x768", 1, 512, 512),
        ("one query of 512", 1, 1, 512),
    ]:
        inputs = [f32(batch, queries, 768), f32(batch, keys, 768), f32(batch, keys, 768)]
        found.append(CASE("MultiHeadAttention", size, inputs, domain=MICROSOFT, num_heads=12))
        heads: list[Draw] = [f32(batch, 12, count, 64) for count in (queries, keys, keys)]
        found.append(CASE("Attention", size, heads, version=23))
    halves = [draw("f16", 1, 12, 128, 64) for _ in range(3)]
    found.append(CASE("Attention", "1x128x768", halves, version=23, type="f16", tolerance=2e-2))
    return found


def grouped() -> list[Case]:
    """GroupQueryAttention of 16 heads over 4 of keys, sizes of 64, with and without a past."""
    found = []
    for size, new, past in [
        ("prompt 64", 64, 0),
        ("prompt 256", 256, 0),
        ("token after 127", 1, 127),
        ("token after 1023", 1, 1023),
    ]:
        inputs = [
            f32(1, new, 1024),
            f32(1, new, 256),
            f32(1, new, 256),
            f32(1, 4, past, 64),
            f32(1, 4, past, 64),
            np.full(1, past + new - 1, np.int32),
            np.array(past + new, np.int32),
        ]
        found.append(
            CASE("GroupQueryAttention", size, inputs, domain=MICROSOFT, outputs=3, num_heads=16, kv_num_heads=4)
        )
    return found


def rotations() -> list[Case]:
    found = []
    for size, length in {"12x128x64": 128, "12x1x64": 1}.items():
        inputs = [f32(1, 12, length, 64), draw("i64", 1, length, low=0, high=512), weight(512, 32), weight(512, 32)]
        found.append(CASE("RotaryEmbedding", size, inputs, domain=MICROSOFT, family="attention"))
    inputs = [f32(1, 12, 128, 64), weight(512, 32), weight(512, 32), draw("i64", 1, 128, low=0, high=512)]
    found.append(CASE("RotaryEmbedding", "ai.onnx 12x128x64", inputs, version=23))
    return found


def cases() -> list[Case]:
    return packed() + separate() + grouped() + rotations()
