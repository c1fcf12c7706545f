"""Sums and other folds, arguments of extremes, sorting, running sums, and softmax."""

from __future__ import annotations

from functools import partial

from operator_speed.case import Case, draw, f32, ints, one

REDUCE = partial(one, family="reduction", outputs=1)
# Size, shape, axes (empty: all).
FOLDS = {
    "last 128x768": ((1, 128, 768), [-1]),
    "last 12288x17": ((12288, 17), [-1]),
    "last 6000x33": ((6000, 33), [-1]),
    "first 512x768": ((512, 768), [0]),
    "middle 8x128x768": ((8, 128, 768), [1]),
    "spatial 256x56x56": ((1, 256, 56, 56), [2, 3]),
    "spatial 960x7x7": ((1, 960, 7, 7), [2, 3]),
    "all 800k": ((1, 256, 56, 56), []),
}


def folds() -> list[Case]:
    found = []
    table = [("ReduceMean", list(FOLDS)), ("ReduceSum", list(FOLDS)), ("ReduceMax", list(FOLDS))]
    table += [(name, ["last 128x768", "first 512x768"]) for name in ("ReduceMin", "ReduceProd", "ReduceL1")]
    table += [("ReduceL2", ["last 128x768", "last 12288x17", "spatial 256x56x56"])]
    table += [("ReduceSumSquare", ["last 128x768"]), ("ReduceLogSumExp", ["last 128x768", "last 6000x33"])]
    table += [("ReduceLogSum", ["last 128x768"])]
    for operator, sizes in table:
        for size in sizes:
            shape, axes = FOLDS[size]
            low, high = (0.9, 1.1) if operator in ("ReduceProd", "ReduceLogSum") else (None, None)
            inputs = [f32(*shape, low=low, high=high)] + ([ints(*axes)] if axes else [])
            found.append(REDUCE(operator, size, inputs, keepdims=1, tolerance=1e-3))
    for type in ("i64", "i32"):
        found.append(REDUCE("ReduceSum", "last 128x768", [draw(type, 1, 128, 768), ints(-1)], type=type))
        found.append(REDUCE("ReduceMax", "last 128x768", [draw(type, 1, 128, 768), ints(-1)], type=type))
    for operator in ("ReduceMean", "ReduceMax"):
        inputs = [draw("f16", 1, 128, 768), ints(-1)]
        found.append(REDUCE(operator, "last 128x768", inputs, type="f16"))
    return found


def arguments() -> list[Case]:
    found = []
    for operator in ("ArgMax", "ArgMin"):
        sizes = {"8x1000": ((8, 1000), -1), "1x50257": ((1, 50257), -1)}
        if operator == "ArgMax":
            sizes |= {"21 classes 256x256": ((1, 21, 256, 256), 1), "12288x17": ((12288, 17), -1)}
        for size, (shape, axis) in sizes.items():
            found.append(REDUCE(operator, size, [f32(*shape)], axis=axis, keepdims=0))
    for size, shape, count in [
        ("5 of 8x1000", (8, 1000), 5),
        ("50 of 50257", (1, 50257), 50),
        ("300 of 8400", (1, 8400), 300),
        ("8 of 512x64", (512, 64), 8),
    ]:
        found.append(REDUCE("TopK", size, [f32(*shape), ints(count)], outputs=2, axis=-1))
    found.append(
        REDUCE(
            "TopK",
            "100 of 10000",
            [draw("i64", 1, 10000, low=0, high=1 << 40), ints(100)],
            type="i64",
            outputs=2,
            axis=-1,
        )
    )
    for size, shape, axis in [
        ("last 128x768", (128, 768), 1),
        ("first 512x768", (512, 768), 0),
        ("65536", (65536,), 0),
    ]:
        for type in ("f32", "i64"):
            found.append(REDUCE("CumSum", size, [draw(type, *shape), ints(axis)[0]], type=type))
    return found


def softmax() -> list[Case]:
    found = []
    case = partial(one, family="softmax")
    for operator, sizes in [
        ("Softmax", [(1, 12, 128, 128), (12, 100, 100), (12, 17, 17), (6000, 33), (1, 1000), (8, 50257)]),
        ("LogSoftmax", [(1, 12, 128, 128), (1, 1000), (8, 50257)]),
        ("Hardmax", [(8, 1000)]),
    ]:
        for shape in sizes:
            found.append(case(operator, "x".join(map(str, shape)), [f32(*shape)], axis=-1))
    found.append(case("Softmax", "channels 1x21x128x128", [f32(1, 21, 128, 128)], axis=1))
    found.append(case("Softmax", "1x12x128x128", [draw("f16", 1, 12, 128, 128)], type="f16", axis=-1))
    return found


def cases() -> list[Case]:
    return folds() + arguments() + softmax()
