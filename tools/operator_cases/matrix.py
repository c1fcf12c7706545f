"""Matrix products, plain, quantized and in Einstein's notation; determinants."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .case import Case, generator
from .windows import moderate

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def factor_shapes(case: Case, vectors: bool = True) -> tuple[list[int], list[int]]:
    """Shapes of two factors, with batch axes that can be broadcast."""
    m, k, n = (0 if case.chance(0.03) else case.pick(1, 2, 3, 5, 7, 8, 13, 17, 32, 65) for _ in range(3))
    axes = case.size(0, max(0, min(3, case.max_rank - 2)))
    batch = [case.size(1, 3) for _ in range(axes)]
    left = [1 if case.chance(0.25) else extent for extent in batch][case.size(0, axes) if case.chance(0.3) else 0 :]
    right = [1 if case.chance(0.25) else extent for extent in batch][case.size(0, axes) if case.chance(0.3) else 0 :]
    a, b = [*left, m, k], [*right, k, n]
    if vectors and case.chance(0.15):
        a = [k]
    if vectors and case.chance(0.15):
        b = [k]
    return a, b


@generator("MatMul")
def matmul(case: Case) -> None:
    elem = case.type("T")
    a, b = factor_shapes(case)
    left, right = case.input(moderate(case, elem, a), constant=0.1), case.input(moderate(case, elem, b), constant=0.4)
    case.node([left, right], outputs=[elem])


@generator("Gemm")
def gemm(case: Case) -> None:
    elem = case.type("T")
    m, k, n = (0 if case.chance(0.02) else case.pick(1, 2, 3, 5, 7, 8, 13, 17, 32, 65) for _ in range(3))
    trans_a, trans_b = case.pick(None, 0, 1), case.pick(None, 0, 1)
    a, b = [k, m] if trans_a else [m, k], [n, k] if trans_b else [k, n]
    attributes = {"transA": trans_a, "transB": trans_b}
    c_shape: list[int] | None = [m, n]
    if case.version >= 11 and case.chance(0.3):
        c_shape = None
    elif case.version >= 7:
        c_shape = case.pick([m, n], [n], [1, n], [m, 1], [1, 1], [1], [])
    elif case.chance(0.5):
        attributes["broadcast"] = 1
        c_shape = case.pick([m, n], [n], [1, n], [m, 1], [1])
    if elem in (TensorProto.FLOAT, TensorProto.DOUBLE, *HALVES):
        attributes |= {"alpha": case.pick(None, 1.0, 0.5, -2.0), "beta": case.pick(None, 1.0, 0.0, 0.25)}
    else:
        attributes |= {"alpha": case.pick(None, 1.0, 2.0), "beta": case.pick(None, 1.0, 0.0, 3.0)}
    inputs = [
        case.input(moderate(case, elem, a)),
        case.input(moderate(case, elem, b), constant=0.4),
        case.input(moderate(case, elem, c_shape) if c_shape is not None else None, constant=0.4),
    ]
    case.node(inputs, outputs=[elem], **attributes)


def bytes_of(case: Case, elem: int, shape: list[int]) -> np.ndarray:
    if elem == TensorProto.UINT8:
        return case.values(elem, shape, 0, 255)
    return case.signed_bytes(shape) if elem == TensorProto.INT8 else case.values(elem, shape)


def zero_point(case: Case, elem: int, shape: list[int]) -> np.ndarray:
    if elem == TensorProto.UINT8:
        return case.values(elem, shape, 90, 160)
    return case.values(elem, shape, -9, 9) if elem == TensorProto.INT8 else np.zeros_like(case.values(elem, shape))


def parameter_shapes(case: Case, a: list[int], b: list[int]) -> tuple[list[int], list[int]]:
    """Shapes of the zero points of two factors: one for all, one a row of the first, one a column of the second."""
    left, right = case.pick([], [], [1]), case.pick([], [], [1])
    if len(a) > 1 and case.chance(0.2):
        left = [a[-2]] if len(a) == 2 else [*a[:-1], 1]
    if len(b) > 1 and case.chance(0.3):
        right = [b[-1]] if len(b) == 2 else [*b[:-2], 1, b[-1]]
    return left, right


@generator("MatMulInteger")
def matmul_integer(case: Case) -> None:
    a_type, b_type = case.type("T1"), case.type("T2")
    a, b = factor_shapes(case, vectors=case.chance(0.2))
    a_zero, b_zero = parameter_shapes(case, a, b)
    inputs = [
        case.input(bytes_of(case, a_type, a)),
        case.input(bytes_of(case, b_type, b), constant=0.5),
        case.input(zero_point(case, a_type, a_zero) if case.chance(0.7) else None, constant=0.5),
        case.input(zero_point(case, b_type, b_zero) if case.chance(0.7) else None, constant=0.5),
    ]
    case.node(inputs, outputs=[TensorProto.INT32])


@generator("QLinearMatMul")
def quantized_matmul(case: Case) -> None:
    a_type = case.type("T1")
    integers = {TensorProto.UINT8, TensorProto.INT8}

    def like_a(name: str) -> int:
        """Of the kind of A, if not told: integers with integers."""
        same = (integers if a_type in integers else {a_type}) if name not in case.forced else None
        return case.type(name, only=same)

    b_type, y_type = like_a("T2"), like_a("T3")
    scale_type = case.type("TS") if case.version >= 21 else TensorProto.FLOAT
    a, b = factor_shapes(case, vectors=case.chance(0.1))
    a_shape, b_shape = parameter_shapes(case, a, b)
    y_scale = np.asarray(case.values(scale_type, case.pick([], [1]), 0.01, 0.03).astype(np.float64))
    y_scale = y_scale * max(1, a[-1]) ** 0.5 * (50 if a_type in integers else 0.02)
    values = [
        bytes_of(case, a_type, a),
        case.values(scale_type, a_shape, 0.002, 0.02),
        zero_point(case, a_type, a_shape),
        bytes_of(case, b_type, b),
        case.values(scale_type, b_shape, 0.002, 0.02),
        zero_point(case, b_type, b_shape),
        y_scale.astype(case.values(scale_type, []).dtype),
        zero_point(case, y_type, list(y_scale.shape)),
    ]
    fed = case.chance(0.3)
    inputs = [case.input(values[0])] + [case.input(value, constant=not fed) for value in values[1:]]
    case.node(inputs, outputs=[y_type])


@generator("Einsum")
def einsum(case: Case) -> None:
    elem = case.type("T")
    letters = "".join(case.pick("abcde", "ijkAB", "xYzWv"))
    extents = {letter: case.size(1, 4) for letter in letters}
    ellipsis = [case.size(1, 3) for _ in range(case.size(1, 2))] if case.chance(0.3) else None
    terms, inputs, used = [], [], []
    for _ in range(case.pick(1, 1, 2, 2, 2, 3)):
        labels = [letters[case.size(0, len(letters) - 1)] for _ in range(case.size(0 if case.chance(0.1) else 1, 3))]
        if case.chance(0.85):
            labels = list(dict.fromkeys(labels))  # repeated labels take a diagonal
        shape = [extents[label] for label in labels]
        term = "".join(labels)
        if ellipsis is not None and case.chance(0.8):
            place = case.size(0, len(labels))
            first = case.size(0, 1) if case.chance(0.2) else 0
            kept = [1 if case.chance(0.15) else extent for extent in ellipsis[first:]]
            shape = shape[:place] + kept + shape[place:]
            term = term[:place] + "..." + term[place:]
        terms.append(term)
        used += labels
        inputs.append(case.input(moderate(case, elem, shape), constant=0.1))
    equation = ",".join(terms)
    if case.chance(0.75):
        kept_labels = [label for label in dict.fromkeys(used) if case.chance(0.6)]
        result = "".join(kept_labels[index] for index in case.rng.permutation(len(kept_labels)))
        if any("..." in term for term in terms):
            place = case.size(0, len(result))
            result = result[:place] + "..." + result[place:]
        equation += "->" + result
    if case.chance(0.2):
        equation = equation.replace(",", " , ").replace("->", " -> ")
    case.node(inputs, outputs=[elem], equation=equation)


@generator("Det")
def determinant(case: Case) -> None:
    elem = case.type("T")
    size = case.size(1, 5)
    batch = [0 if case.chance(0.03) else case.size(1, 3) for _ in range(case.size(0, 2))]
    x = moderate(case, elem, [*batch, size, size])
    if size > 1 and case.chance(0.1):
        x[..., 1, :] = x[..., 0, :]  # singular
    case.node([case.input(x)], outputs=[elem])
