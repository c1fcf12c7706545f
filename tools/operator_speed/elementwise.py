"""Functions of one element or of two, comparisons, choices and casts."""

from __future__ import annotations

from functools import partial

from operator_speed.case import Case, Draw, Node, draw, f32, fixed, one, scalar, several

MICROSOFT = "com.microsoft"
SMALL, LARGE = (1, 128, 768), (1, 64, 112, 112)
# Operator, the bounds of its argument (None: normal), attributes; `both` sizes, or the large one only.
UNARY = [
    ("Relu", None, {}, True),
    ("Sigmoid", None, {}, True),
    ("Tanh", None, {}, True),
    ("Erf", None, {}, True),
    ("Exp", None, {}, True),
    ("Log", (0.1, 9), {}, True),
    ("Sqrt", (0, 9), {}, True),
    ("Reciprocal", (0.5, 9), {}, False),
    ("Abs", None, {}, False),
    ("Neg", None, {}, False),
    ("Floor", (-9, 9), {}, False),
    ("Ceil", (-9, 9), {}, False),
    ("Round", (-9, 9), {}, False),
    ("Sign", None, {}, False),
    ("LeakyRelu", None, {"alpha": 0.1}, True),
    ("Elu", None, {}, False),
    ("Selu", None, {}, False),
    ("Celu", None, {}, False),
    ("ThresholdedRelu", None, {}, False),
    ("HardSigmoid", None, {}, False),
    ("HardSwish", None, {}, True),
    ("Softplus", None, {}, False),
    ("Softsign", None, {}, False),
    ("Mish", None, {}, False),
    ("Gelu", None, {}, True),
    ("Sin", None, {}, False),
    ("Cos", None, {}, False),
    ("Tan", (-1, 1), {}, False),
    ("Asin", (-1, 1), {}, False),
    ("Acos", (-1, 1), {}, False),
    ("Atan", None, {}, False),
    ("Sinh", None, {}, False),
    ("Cosh", None, {}, False),
    ("Asinh", None, {}, False),
    ("Acosh", (1, 9), {}, False),
    ("Atanh", (-0.9, 0.9), {}, False),
    ("IsNaN", None, {}, False),
    ("IsInf", None, {}, False),
]


def bounded(type: str, shape: tuple[int, ...], bounds: tuple[float, float] | None) -> Draw:
    low, high = bounds or (None, None)
    return Draw(type, shape, low, high)


def unary() -> list[Case]:
    case = partial(one, family="unary")
    found = []
    for operator, bounds, attributes, both in UNARY:
        sizes = {"98k": SMALL, "803k": LARGE} if both else {"803k": LARGE}
        found += [case(operator, size, [bounded("f32", shape, bounds)], **attributes) for size, shape in sizes.items()]
    for operator, bounds in [("Sigmoid", None), ("Tanh", None), ("Relu", None), ("Exp", None), ("Sqrt", (0, 9))]:
        found.append(case(operator, "803k", [bounded("f16", LARGE, bounds)], type="f16"))
    found += [
        case("Gelu", "tanh 98k", [f32(*SMALL)], approximate="tanh"),
        case("QuickGelu", "98k", [f32(*SMALL)], domain=MICROSOFT, alpha=1.702),
        case("QuickGelu", "803k", [f32(*LARGE)], domain=MICROSOFT, alpha=1.702),
        case("FastGelu", "393k", [f32(1, 128, 3072), fixed("f32", 3072)], domain=MICROSOFT),
        case("BiasGelu", "393k", [f32(1, 128, 3072), fixed("f32", 3072)], domain=MICROSOFT),
        case("Clip", "0 to 6 803k", [f32(*LARGE), scalar("f32", 0), scalar("f32", 6)]),
        case("Clip", "803k", [draw("s8", *LARGE), scalar("s8", -5), scalar("s8", 100)], type="s8"),
        case("PRelu", "channels 803k", [f32(*LARGE), fixed("f32", 64, 1, 1)]),
        case("Not", "803k", [draw("bool", *LARGE)], type="bool"),
        case("Neg", "803k", [draw("i64", *LARGE)], type="i64"),
        case("Abs", "803k", [draw("i64", *LARGE)], type="i64"),
        case("BitwiseNot", "803k", [draw("i32", *LARGE)], type="i32"),
    ]
    return found


# Names of pairs of shapes that meet in practice.
PAIRS = {
    "same 98k": (SMALL, SMALL),
    "same 803k": (LARGE, LARGE),
    "scalar 803k": (LARGE, ()),
    "row 98k": (SMALL, (768,)),
    "channel 803k": (LARGE, (64, 1, 1)),
    "column 98k": (SMALL, (1, 128, 1)),
    "outer 262k": ((512, 1), (1, 512)),
    "image 803k": (LARGE, (1, 1, 112, 112)),
}


def binary() -> list[Case]:
    case = partial(one, family="binary")
    found = []
    for operator, pairs in [
        ("Add", list(PAIRS)),
        ("Mul", list(PAIRS)),
        ("Sub", ["same 803k", "scalar 803k", "row 98k"]),
        ("Div", ["same 803k", "scalar 803k", "column 98k"]),
        ("Max", ["same 803k", "scalar 803k"]),
        ("Min", ["same 803k"]),
    ]:
        for pair in pairs:
            a, b = PAIRS[pair]
            found.append(case(operator, pair, [f32(*a), f32(*b, low=0.5, high=2)]))
    found += [
        case("Pow", "square 803k", [f32(*LARGE), scalar("f32", 2)]),
        case("Pow", "root 98k", [f32(*SMALL, low=0.1, high=9), scalar("f32", 0.5)]),
        case("Pow", "same 98k", [f32(*SMALL, low=0.1, high=9), f32(*SMALL, low=-2, high=2)]),
        case("Mod", "fmod 98k", [f32(*SMALL), f32(*SMALL, low=0.5, high=2)], fmod=1),
        case("Mod", "98k", [draw("i64", *SMALL), draw("i64", *SMALL, low=1, high=50)], type="i64"),
        case("Sum", "of 3 98k", [f32(*SMALL), f32(*SMALL), f32(*SMALL)]),
        case("Mean", "of 3 98k", [f32(*SMALL), f32(*SMALL), f32(*SMALL)]),
    ]
    for type in ("i64", "i32"):
        for operator in ("Add", "Mul", "Sub"):
            found.append(case(operator, "same 98k", [draw(type, *SMALL), draw(type, *SMALL)], type=type))
    found.append(case("Div", "same 98k", [draw("i64", *SMALL), draw("i64", *SMALL, low=1, high=50)], type="i64"))
    found.append(case("Add", "same 98k", [draw("f64", *SMALL), draw("f64", *SMALL)], type="f64"))
    for operator in ("Add", "Mul"):
        found.append(case(operator, "same 98k", [draw("f16", *SMALL), draw("f16", *SMALL)], type="f16"))
        found.append(case(operator, "row 98k", [draw("f16", *SMALL), draw("f16", 768)], type="f16"))
    return found


def comparison() -> list[Case]:
    case = partial(one, family="logic")
    found = []
    for operator, pairs in [
        ("Equal", ["same 98k", "scalar 803k", "outer 262k"]),
        ("Less", ["same 803k", "scalar 803k", "row 98k"]),
        ("Greater", ["channel 803k", "outer 262k"]),
        ("LessOrEqual", ["column 98k"]),
        ("GreaterOrEqual", ["same 98k"]),
    ]:
        for pair in pairs:
            a, b = PAIRS[pair]
            found.append(case(operator, pair, [f32(*a), f32(*b)]))
    for operator, pair in [("Equal", "same 98k"), ("Less", "outer 262k"), ("Greater", "scalar 803k")]:
        a, b = PAIRS[pair]
        found.append(case(operator, pair, [draw("i64", *a), draw("i64", *b)], type="i64"))
    for operator, pair in [("And", "same 98k"), ("Or", "outer 262k"), ("Xor", "same 803k"), ("And", "row 98k")]:
        a, b = PAIRS[pair]
        found.append(case(operator, pair, [draw("bool", *a), draw("bool", *b)], type="bool"))
    found.append(case("BitwiseAnd", "same 98k", [draw("i32", *SMALL), draw("i32", *SMALL)], type="i32"))
    shifts = [draw("u8", *SMALL), draw("u8", *SMALL, low=0, high=8)]
    found.append(case("BitShift", "same 98k", shifts, type="u8", direction="LEFT"))
    scores, mask = (1, 12, 128, 128), (1, 1, 128, 128)
    for type in ("f32", "f16", "i64"):
        found += [
            case("Where", "mask and scalar", [draw("bool", *mask), draw(type, *scores), scalar(type, -1)], type=type),
            case("Where", "same 98k", [draw("bool", *SMALL), draw(type, *SMALL), draw(type, *SMALL)], type=type),
        ]
    return found


CASTS = [
    ("f32", "f16"),
    ("f16", "f32"),
    ("f32", "f64"),
    ("f64", "f32"),
    ("f32", "i64"),
    ("i64", "f32"),
    ("f32", "i32"),
    ("i32", "f32"),
    ("f32", "u8"),
    ("u8", "f32"),
    ("f32", "s8"),
    ("s8", "f32"),
    ("i64", "i32"),
    ("i32", "i64"),
    ("f32", "bool"),
    ("bool", "f32"),
    ("i64", "bool"),
    ("bool", "i64"),
    ("u8", "f16"),
    ("i64", "f16"),
]
CODES = {"f32": 1, "u8": 2, "s8": 3, "i32": 6, "i64": 7, "bool": 9, "f16": 10, "f64": 11, "bf16": 16}
SIXTEEN = {"f16", "bf16"}


def casts() -> list[Case]:
    found = []
    for source, target in CASTS:
        for size, shape in {"98k": SMALL, "803k": LARGE}.items():
            bounds = (0, 100) if source not in ("bool",) else None
            kind = "f16" if SIXTEEN & {source, target} else "i64" if "i64" in (source, target) else source
            title = f"{source} to {target} {size}"
            found.append(
                one("Cast", title, [bounded(source, shape, bounds)], family="cast", type=kind, to=CODES[target])
            )
    for size, shape in {"98k": SMALL, "803k": LARGE}.items():
        nodes = [Node("Cast", ["x0"], ["h"], {"to": CODES["bf16"]}), Node("Cast", ["h"], ["y"], {"to": CODES["f32"]})]
        found.append(
            several("Cast", f"to bf16 and back {size}", [f32(*shape)], nodes, ["y"], family="cast", type="bf16")
        )
    found.append(one("BitCast", "f32 to i32 98k", [f32(*SMALL)], family="cast", version=26, to=CODES["i32"]))
    return found


def cases() -> list[Case]:
    return unary() + binary() + comparison() + casts()
