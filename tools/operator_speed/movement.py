"""What moves elements and computes nothing: joins, cuts, transposes, gathers, scatters, and makers of tensors."""

from __future__ import annotations

from functools import partial

import numpy as np

from operator_speed.case import Case, Node, draw, f32, fixed, in_type, ints, one, scalar, several

MOVE = partial(one, family="movement")
INDEX = partial(one, family="indexing")
# Size, shape, permutation.
TRANSPOSES = [
    ("heads 128x12x64", (1, 128, 12, 64), [0, 2, 1, 3]),
    ("keys 12x128x64", (1, 12, 128, 64), [0, 1, 3, 2]),
    ("to channels last 64x112x112", (1, 64, 112, 112), [0, 2, 3, 1]),
    ("to channels first 112x112x64", (1, 112, 112, 64), [0, 3, 1, 2]),
    ("image 3x224x224", (1, 224, 224, 3), [0, 3, 1, 2]),
    ("512x768", (512, 768), [1, 0]),
    ("windows 8x7x8x7x96", (1, 8, 7, 8, 7, 96), [0, 1, 3, 2, 4, 5]),
    ("reversed 32x33x34x35", (32, 33, 34, 35), [3, 2, 1, 0]),
]


def transposes(type: str) -> list[Case]:
    chosen = TRANSPOSES if type == "f32" else [row for row in TRANSPOSES if row[0].startswith(("heads", "to ", "512"))]
    return [MOVE("Transpose", size, [draw(type, *shape)], type=type, perm=perm) for size, shape, perm in chosen]


def joins(type: str) -> list[Case]:
    case = partial(MOVE, type=type)
    image, rows = (1, 64, 56, 56), (1, 128, 768)
    found = [
        case("Concat", "2 by channels 64x56x56", [draw(type, *image)] * 2, axis=1),
        case("Concat", "2 by last 128x768", [draw(type, *rows)] * 2, axis=-1),
        case("Split", "3 by last 128x2304", [draw(type, 1, 128, 2304), ints(768, 768, 768)], outputs=3, axis=-1),
        case("Split", "2 by channels 128x28x28", [draw(type, 1, 128, 28, 28), ints(64, 64)], outputs=2, axis=1),
        case("Slice", "rows 128x768", [draw(type, *rows), ints(0), ints(64), ints(1)]),
        case("Slice", "halves of the last 128x768", [draw(type, *rows), ints(0), ints(384), ints(2)]),
        case("Slice", "step 2 64x56x56", [draw(type, *image), ints(0, 0), ints(56, 56), ints(2, 3), ints(2, 2)]),
        case("Pad", "constant 64x56x56", [draw(type, *image), ints(0, 0, 1, 1, 0, 0, 1, 1)]),
        case("Tile", "2 by rows 128x768", [draw(type, *rows), ints(1, 2, 1)]),
        case("Expand", "mask 12x128x128", [draw(type, 1, 1, 1, 128), ints(1, 12, 128, 128)]),
    ]
    if type != "f32":
        return found
    return found + [
        case("Concat", "12 of 64x7x7", [f32(1, 64, 7, 7)] * 12, axis=1),
        case("Concat", "cache 12x127x64 and 1", [f32(1, 12, 127, 64), f32(1, 12, 1, 64)], axis=2),
        case("Slice", "backwards 128x768", [f32(*rows), ints(-1), ints(-(1 << 60)), ints(2), ints(-1)]),
        case("Pad", "reflect 64x56x56", [f32(*image), ints(0, 0, 1, 1, 0, 0, 1, 1)], mode="reflect"),
        case("Pad", "edge 64x56x56", [f32(*image), ints(0, 0, 1, 1, 0, 0, 1, 1)], mode="edge"),
        case("Tile", "4x4 of 64x64", [f32(1, 64, 64), ints(1, 4, 4)]),
        case("Expand", "columns 768x128", [f32(768, 1), ints(768, 128)]),
        case("DepthToSpace", "2 256x28x28", [f32(1, 256, 28, 28)], blocksize=2),
        case("DepthToSpace", "3 CRD 27x56x56", [f32(1, 27, 56, 56)], blocksize=3, mode="CRD"),
        case("SpaceToDepth", "2 64x56x56", [f32(*image)], blocksize=2),
        case("ReverseSequence", "100x8x256", [f32(100, 8, 256), np.full(8, 90, np.int64)], time_axis=0, batch_axis=1),
        case("Trilu", "512x512", [f32(512, 512)], upper=1),
        case("CenterCropPad", "64x48x48", [f32(*image), ints(48, 48)], axes=[2, 3]),
        case("Col2Im", "3x3 64 28", [f32(1, 576, 784), ints(28, 28), ints(3, 3)], pads=[1] * 4),
        case("Squeeze", "128x768", [f32(1, 128, 768), ints(0)]),
        case("CastLike", "same type 128x768", [f32(1, 128, 768), f32(1)]),
        case("Unsqueeze", "128x768", [f32(128, 768), ints(0)]),
        case("Reshape", "128x768", [f32(1, 128, 768), ints(1, 128, 12, 64)]),
        case("Identity", "128x768", [f32(1, 128, 768)]),
    ]


def gathers(type: str) -> list[Case]:
    case = partial(INDEX, type=type)
    found = [
        case("Gather", "rows 128 of 30522x768", [fixed(type, 30522, 768), draw("i64", 1, 128, low=0, high=30522)]),
        case("Gather", "columns 64 of 512x512", [draw(type, 512, 512), draw("i64", 64, low=0, high=512)], axis=1),
        case("Gather", "one of 3x12x128x64", [draw(type, 3, 12, 128, 64), scalar("i64", 1)], axis=0),
        case("GatherElements", "last 128x768", [draw(type, 128, 768), draw("i64", 128, 768, low=0, high=768)], axis=1),
        case("GatherElements", "first 512x64", [draw(type, 512, 64), draw("i64", 128, 64, low=0, high=512)], axis=0),
        case("GatherND", "rows 1000 of 64x64x32", [draw(type, 64, 64, 32), draw("i64", 1000, 2, low=0, high=64)]),
    ]
    if type != "f32":
        return found
    rows = np.stack([np.arange(512) % 64, np.arange(512) // 8], -1).astype(np.int64)
    columns = np.argsort(np.random.default_rng(0).random((128, 768)), -1).astype(np.int64)
    return found + [
        case("GatherND", "elements 20000 of 256x256", [f32(256, 256), draw("i64", 20000, 2, low=0, high=256)]),
        case("ScatterElements", "last 128x768", [f32(128, 768), columns, f32(128, 768)], axis=1),
        case(
            "ScatterElements",
            "sums first 512x64",
            [f32(512, 64), draw("i64", 128, 64, low=0, high=512), f32(128, 64)],
            axis=0,
            reduction="add",
        ),
        case("ScatterND", "rows 512 of 64x64x32", [f32(64, 64, 32), rows, f32(512, 32)]),
        case(
            "ScatterND",
            "sums 1000 of 64x64x32",
            [f32(64, 64, 32), draw("i64", 1000, 2, low=0, high=64), f32(1000, 32)],
            reduction="add",
        ),
        case("TensorScatter", "12x128x64", [f32(1, 12, 128, 64), f32(1, 12, 8, 64), ints(64)], version=24, axis=2),
    ]


def sequences() -> list[Case]:
    """Through sequences of tensors and back."""
    inputs = [f32(64, 128, 96), scalar("i64", 0), scalar("i64", 8)]
    split = Node("SplitToSequence", ["x0", "x2"], ["s"], {"axis": 0})
    join = Node("ConcatFromSequence", ["s"], ["y"], {"axis": 0})
    at = Node("SequenceAt", ["s", "x1"], ["y"])
    case = partial(several, family="movement")
    return [
        case("SplitToSequence and ConcatFromSequence", "8 of 8x128x96", inputs, [split, join], ["y"]),
        case("SplitToSequence and SequenceAt", "8 of 8x128x96", inputs, [split, at], ["y"]),
    ]


def makers() -> list[Case]:
    return [
        INDEX(
            "OneHot",
            "1024 of 128",
            [draw("i64", 1024, low=0, high=128), scalar("i64", 128), np.array([0, 1], np.float32)],
            axis=-1,
        ),
        INDEX("NonZero", "98k", [draw("i64", 128, 768, low=0, high=2)], type="i64"),
        INDEX("NonZero", "98k", [draw("bool", 128, 768)], type="bool"),
        INDEX("NonZero", "803k", [f32(1, 64, 112, 112)]),
        INDEX("Compress", "512x768", [f32(512, 768), draw("bool", 512)], axis=0),
        INDEX("Compress", "98k", [draw("f32", 98304), draw("bool", 98304)]),
        INDEX("Unique", "10000", [draw("i64", 10000, low=0, high=500)], type="i64", outputs=4),
        INDEX("Unique", "10000", [f32(10000)], outputs=4),
        MOVE("EyeLike", "512x512", [f32(512, 512)]),
        MOVE("ConstantOfShape", "98k", [draw("i64", 2, low=300, high=301)]),
        MOVE(
            "Range",
            "10000",
            [draw("i64", low=0, high=1), draw("i64", low=10000, high=10001), draw("i64", low=1, high=2)],
            type="i64",
        ),
        MOVE("Shape", "128x768", [f32(1, 128, 768)]),
    ]


def cases() -> list[Case]:
    return (
        in_type(transposes, "f32", "f16", "u8")
        + in_type(joins, "f32", "f16", "u8", "i64")
        + in_type(gathers, "f32", "f16", "i64")
        + makers()
        + sequences()
    )
