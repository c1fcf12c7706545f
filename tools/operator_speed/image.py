"""Pooling, resizing, sampling, and what detectors need."""

from __future__ import annotations

from functools import partial

import numpy as np

from operator_speed.case import Case, draw, f32, ints, one, scalar

POOL = partial(one, family="pooling")
IMAGE = partial(one, family="image")


def pools() -> list[Case]:
    found = []
    square = {"kernel_shape": [3, 3], "pads": [1] * 4}
    halves = {"kernel_shape": [2, 2], "strides": [2, 2]}
    for operator in ("MaxPool", "AveragePool"):
        found += [
            POOL(operator, "3x3 s2 64 112", [f32(1, 64, 112, 112)], strides=[2, 2], **square),
            POOL(operator, "2x2 s2 32 128", [f32(1, 32, 128, 128)], **halves),
            POOL(operator, "2x2 s2 512 14", [f32(1, 512, 14, 14)], **halves),
            POOL(operator, "3x3 s1 192 35", [f32(1, 192, 35, 35)], strides=[1, 1], **square),
            POOL(operator, "1d 3 256 of 1000", [f32(1, 256, 1000)], kernel_shape=[3], strides=[1], pads=[1, 1]),
            POOL(operator, "3d 2x2x2 32 16 28", [f32(1, 32, 16, 28, 28)], kernel_shape=[2] * 3, strides=[2] * 3),
        ]
    found += [
        POOL("MaxPool", "5x5 s1 256 20", [f32(1, 256, 20, 20)], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4),
        POOL("MaxPool", "3x3 s2 64 112", [draw("u8", 1, 64, 112, 112)], type="u8", strides=[2, 2], **square),
        POOL("MaxPool", "2x2 s2 64 56", [draw("s8", 1, 64, 56, 56)], type="s8", **halves),
        POOL("MaxPool", "2x2 s2 32 64", [f32(1, 32, 64, 64)], outputs=2, **halves),
        POOL("MaxPool", "3x3 s2 64 112", [draw("f16", 1, 64, 112, 112)], type="f16", strides=[2, 2], **square),
        POOL("LpPool", "2x2 s2 32 64", [f32(1, 32, 64, 64)], p=2, **halves),
        POOL("GlobalAveragePool", "2048 7", [f32(1, 2048, 7, 7)]),
        POOL("GlobalAveragePool", "96 56", [f32(1, 96, 56, 56)]),
        POOL("GlobalMaxPool", "512 14", [f32(1, 512, 14, 14)]),
    ]
    indices = np.tile(np.arange(1024, dtype=np.int64).reshape(32, 32) * 2, (1, 32, 1, 1))
    indices += np.arange(32).reshape(1, 32, 1, 1) * 4096
    found.append(POOL("MaxUnpool", "2x2 32 32", [f32(1, 32, 32, 32), indices], kernel_shape=[2, 2], strides=[2, 2]))
    return found


def resizes() -> list[Case]:
    found = []
    for mode, title, scales, attributes in [
        ("nearest", "asymmetric x2", (2, 2), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        ("nearest", "half pixel x1.5", (1.5, 1.5), {}),
        ("linear", "half pixel x2", (2, 2), {}),
        ("linear", "align corners x2", (2, 2), {"coordinate_transformation_mode": "align_corners"}),
        ("linear", "half pixel x0.5", (0.5, 0.5), {}),
        ("cubic", "half pixel x2", (2, 2), {}),
        ("linear", "antialias x0.5", (0.5, 0.5), {"antialias": 1}),
    ]:
        for shape in ((1, 64, 56, 56), (1, 3, 224, 224)):
            inputs = [f32(*shape), None, np.array([1, 1, *scales], np.float32)]
            found.append(IMAGE("Resize", f"{mode} {title} {shape[1]} {shape[2]}", inputs, mode=mode, **attributes))
    bytes_ = [draw("u8", 1, 3, 224, 224), None, np.array([1, 1, 2, 2], np.float32)]
    found.append(IMAGE("Resize", "linear half pixel x2 3 224", bytes_, type="u8", mode="linear", tolerance=0.01))
    found.append(IMAGE("Resize", "nearest half pixel x2 3 224", bytes_, type="u8", mode="nearest"))
    last = [f32(1, 56, 56, 64), None, np.array([1, 2, 2, 1], np.float32)]
    found.append(IMAGE("Resize", "linear channels last x2 64 56", last, mode="linear"))
    return found


def samples() -> list[Case]:
    found = []
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border") if mode == "linear" else ("zeros",):
            inputs = [f32(1, 32, 64, 64), f32(1, 64, 64, 2, low=-1.1, high=1.1)]
            found.append(IMAGE("GridSample", f"{mode} {padding} 32 64", inputs, mode=mode, padding_mode=padding))
    volume = [f32(1, 8, 16, 32, 32), f32(1, 16, 32, 32, 3, low=-1, high=1)]
    found.append(IMAGE("GridSample", "linear zeros 8 16 32", volume, mode="linear"))
    found.append(IMAGE("AffineGrid", "8 of 64", [f32(8, 2, 3), ints(8, 3, 64, 64)]))
    boxes = np.sort(np.random.default_rng(0).uniform(0, 800, (100, 2, 2)), 1).reshape(100, 4).astype(np.float32)
    for size, side in [("100 7x7 256 50", 7), ("100 14x14 64 50", 14)]:
        channels = 256 if side == 7 else 64
        inputs = [f32(1, channels, 50, 50), boxes, np.zeros(100, np.int64)]
        found.append(
            IMAGE(
                "RoiAlign",
                size,
                inputs,
                output_height=side,
                output_width=side,
                sampling_ratio=2,
                spatial_scale=1 / 16,
                version=16,
            )
        )
    rois = np.concatenate([np.zeros((100, 1), np.float32), boxes], 1)
    inputs = [f32(1, 256, 50, 50), rois]
    found.append(IMAGE("MaxRoiPool", "100 7x7 256 50", inputs, pooled_shape=[7, 7], spatial_scale=1 / 16, version=21))
    return found


def suppressions() -> list[Case]:
    found = []
    for count, classes, limit in [(1000, 1, 100), (8400, 1, 300), (1917, 20, 100)]:
        random = np.random.default_rng(count)
        corners = random.uniform(0, 600, (1, count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(5, 120, (1, count, 2))], -1).astype(np.float32)
        inputs = [boxes, f32(1, classes, count, low=0, high=1), ints(limit)[0], scalar("f32", 0.5), scalar("f32", 0.3)]
        found.append(IMAGE("NonMaxSuppression", f"{count} boxes {classes} classes", inputs))
    return found


def cases() -> list[Case]:
    return pools() + resizes() + samples() + suppressions()
