"""Features, labels and maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from ..case import Case, NotApplicable, generator
from ..sequence import element
from ..tensor import numpy_type
from ..text import words

ML = "ai.onnx.ml"
FLOAT, DOUBLE, INT64, STRING = (
    int(kind) for kind in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING)
)
NAMES = ("", "a", "b", "ab", "é", "Z", "cat", "dog", "日本")
POST_TRANSFORMS = (None, "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def features(case: Case, shape: list[int], name: str = "T", missing: float = 0.0) -> tuple[np.ndarray, int]:
    """Numbers of the input's type, halves and integers among them, and NaN with probability `missing`."""
    elem_type = case.type(name)
    dtype = numpy_type(elem_type)
    if dtype.kind in "iu":
        return case.rng.integers(-4, 5, tuple(shape)).astype(dtype), elem_type
    values = np.where(
        case.rng.random(tuple(shape)) < 0.5,
        case.rng.integers(-4, 5, tuple(shape)) / 2,
        case.rng.standard_normal(tuple(shape)),
    )
    values = np.where(case.rng.random(tuple(shape)) < missing, np.nan, values)
    return values.astype(dtype), elem_type


def floats(case: Case, count: int, scale: float = 1.0) -> list[float]:
    return [float(np.float32(number)) for number in case.rng.standard_normal(count) * scale]


def table(case: Case, low: int = 1) -> list[int]:
    """The shape of rows of features."""
    return [case.size(0 if case.chance(0.05) else 1, 7), case.size(low, 6)]


# Features


@generator("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(case: Case) -> None:
    shape = case.shape(case.rank(1, 4), 1, 7)
    elem_type = case.type("T")
    indices = case.rng.integers(0, shape[-1], case.pick([case.size(1, 5)], [1, case.size(1, 5)]))
    case.node([case.input(case.values(elem_type, shape), 0.1, elem_type), case.input(indices, 0.5)], [elem_type])


@generator("Binarizer", domain=ML)
def binarizer(case: Case) -> None:
    values, elem_type = features(case, case.shape(), missing=0.1 if case.chance(0.2) else 0)
    case.node([case.input(values)], [elem_type], threshold=case.pick(None, 0.0, 0.5, -1.0, 2.25))


@generator("FeatureVectorizer", domain=ML)
def feature_vectorizer(case: Case) -> None:
    rows = case.size(1, 5)
    inputs, widths = [], []
    elem_type = case.type("T1")
    for _ in range(case.size(1, 4)):
        width = case.size(1, 5)
        inputs.append(case.input(features(case, [rows, width], "T1")[0], 0.1, elem_type))
        widths.append(width if case.chance(0.7) else case.size(1, 6))
    case.node(inputs, [FLOAT], inputdimensions=widths)


@generator("Imputer", domain=ML)
def imputer(case: Case) -> None:
    shape = table(case)
    values, elem_type = features(case, shape, missing=0.3)
    count = case.pick(1, shape[1])
    if numpy_type(elem_type).kind in "iu":
        attributes: dict[str, Any] = {
            "imputed_value_int64s": [case.size(-9, 9) for _ in range(count)],
            "replaced_value_int64": case.pick(None, 0, 1, -2),
        }
    else:
        attributes = {
            "imputed_value_floats": floats(case, count),
            "replaced_value_float": case.pick(None, 0.0, float("nan"), 1.5),
        }
    case.node([case.input(values)], [elem_type], **attributes)


@generator("Normalizer", domain=ML)
def normalizer(case: Case) -> None:
    shape = table(case)
    values, _ = features(case, shape if case.chance(0.8) else shape[1:])
    case.node([case.input(values)], [FLOAT], norm=case.pick(None, "MAX", "L1", "L2"))


@generator("Scaler", domain=ML)
def scaler(case: Case) -> None:
    shape = table(case)
    values, _ = features(case, shape)
    count = case.pick(1, shape[1])
    case.node([case.input(values)], [FLOAT], offset=floats(case, count), scale=floats(case, count))


@generator("OneHotEncoder", domain=ML)
def one_hot_encoder(case: Case) -> None:
    shape = case.shape(case.rank(1, 3), 1, 5)
    elem_type = case.type("T")
    zeros = case.pick(None, 0, 1)
    if elem_type == STRING:
        categories: list = [str(name) for name in case.rng.permutation(np.array(NAMES, object))[: case.size(1, 6)]]
        known = tuple(categories) if zeros == 0 else NAMES
        case.node([case.input(words(case, shape, known))], [FLOAT], cats_strings=categories, zeros=zeros)
        return
    categories = [int(number) for number in case.rng.permutation(np.arange(-3, 6))[: case.size(1, 6)]]
    values = case.rng.choice(categories, tuple(shape)) if zeros == 0 else case.rng.integers(-3, 6, tuple(shape))
    case.node([case.input(values.astype(numpy_type(elem_type)))], [FLOAT], cats_int64s=categories, zeros=zeros)


# Labels


@generator("CategoryMapper", domain=ML)
def category_mapper(case: Case) -> None:
    count = case.size(1, 6)
    names = [str(name) for name in case.rng.permutation(np.array(NAMES, object))[:count]]
    numbers = [int(number) for number in case.rng.permutation(np.arange(-3, 9))[:count]]
    shape = case.shape(case.rank(0, 4), high=5)
    backwards = case.type("T1") == INT64
    values = case.rng.integers(-4, 9, tuple(shape)) if backwards else words(case, shape, NAMES)
    case.node(
        [case.input(values)],
        [STRING if backwards else INT64],
        cats_strings=names,
        cats_int64s=numbers,
        default_int64=case.pick(None, 7),
        default_string=case.pick(None, "?") if backwards else None,
    )


ATTRIBUTES = {FLOAT: "floats", INT64: "int64s", STRING: "strings"}


def labels(case: Case, elem_type: int, count: int) -> np.ndarray:
    """Different values of a type."""
    if elem_type == STRING:
        return case.rng.permutation(np.array(NAMES, object))[:count]
    values = case.rng.permutation(np.arange(-4, 6))[:count]
    dtype = numpy_type(elem_type)
    return (values / 2 if dtype.kind == "f" else values).astype(dtype)


@generator("LabelEncoder", domain=ML)
def label_encoder(case: Case) -> None:
    key_type, value_type = case.type("T1"), case.type("T2")
    shape = case.shape(case.rank(0, 4), high=5)
    if case.version == 1:
        if {key_type, value_type} != {STRING, INT64}:
            raise NotApplicable("strings to integers, or integers to strings")
        names = [str(name) for name in case.rng.permutation(np.array(NAMES, object))[: case.size(1, 6)]]
        values = words(case, shape, NAMES) if key_type == STRING else case.rng.integers(-1, 8, tuple(shape))
        default = (
            {"default_int64": case.pick(None, 9)} if key_type == STRING else {"default_string": case.pick(None, "?")}
        )
        case.node([case.input(values)], [value_type], classes_strings=names, **default)
        return
    count = case.size(1, 7)
    keys = labels(case, key_type, count)
    targets = case.rng.choice(labels(case, value_type, 7), count)
    data = case.rng.choice(labels(case, key_type, 9), tuple(shape)).astype(numpy_type(key_type))
    tensors = key_type not in ATTRIBUTES or value_type not in ATTRIBUTES or (case.version >= 4 and case.chance(0.3))
    attributes: dict[str, Any] = {}
    for part, elem_type, values in (("keys", key_type, keys), ("values", value_type, targets)):
        if tensors:
            attributes[f"{part}_tensor"] = numpy_helper.from_array(values, part)
        else:
            attributes[f"{part}_{ATTRIBUTES[elem_type]}"] = values.tolist()
    if tensors:
        default = labels(case, value_type, 1)
        attributes["default_tensor"] = numpy_helper.from_array(default, "default")
    else:
        name = {FLOAT: "default_float", INT64: "default_int64", STRING: "default_string"}[value_type]
        attributes[name] = case.pick(None, {FLOAT: 0.25, INT64: 77, STRING: "?"}[value_type])
    case.node([case.input(data)], [value_type], **attributes)


# Maps


def dictionary(case: Case, key: str, elem_type: int, keys: list) -> dict:
    """A map of some of `keys` to values of a type."""
    chosen = (
        keys if not keys else [keys[int(index)] for index in case.rng.permutation(len(keys))[: case.size(1, len(keys))]]
    )
    values = (
        words(case, [len(chosen)], ("1", "-2", "3.5", "12"))
        if elem_type == STRING
        else case.values(elem_type, [len(chosen)])
    )
    return {int(name) if key == "int64" else str(name): value for name, value in zip(chosen, values.tolist())}


def map_type(case: Case, variable: str) -> tuple[str, str, int]:
    """A map type, and the types of its keys and values."""
    kind = case.variable_type(variable)
    key, value = kind.removeprefix("map(").removesuffix(")").split(", ")
    return kind, key, element(f"tensor({value})")


@generator("CastMap", domain=ML)
def cast_map(case: Case) -> None:
    kind, key, elem_type = map_type(case, "T1")
    mapping = dictionary(case, key, elem_type, sorted({case.size(0, 9) for _ in range(case.size(1, 5))}))
    sparse = case.chance(0.4)
    result = case.type("T2")
    form = {FLOAT: "TO_FLOAT", STRING: "TO_STRING", INT64: "TO_INT64"}[result]
    if elem_type == STRING and result == INT64:
        mapping = {number: str(case.size(-50, 50)) for number in mapping}
    case.node(
        [case.input(mapping, elem_type=kind)],
        [result],
        cast_to=form,
        map_form="SPARSE" if sparse else case.pick(None, "DENSE"),
        max_map=max(mapping) + case.size(1, 3) if sparse else None,
    )


@generator("DictVectorizer", domain=ML)
def dict_vectorizer(case: Case) -> None:
    kind, key, elem_type = map_type(case, "T1")
    if key == "int64":
        keys: list = [int(number) for number in case.rng.permutation(12)[: case.size(1, 8)]]
    else:
        keys = [str(name) for name in case.rng.permutation(np.array(NAMES, object))[: case.size(1, 8)]]
    mapping = dictionary(case, key, elem_type, keys)
    case.node(
        [case.input(mapping, elem_type=kind)],
        [elem_type],
        **{"int64_vocabulary" if key == "int64" else "string_vocabulary": keys},
    )


@generator("ZipMap", domain=ML)
def zip_map(case: Case) -> None:
    shape = table(case)
    if case.variable_type("T") == "seq(map(string, float))":
        names = [str(name) for name in case.rng.permutation(np.array(NAMES, object))[: shape[1]]]
        attributes: dict[str, Any] = {"classlabels_strings": names}
        kind = "seq(map(string, float))"
    else:
        attributes = {"classlabels_int64s": [int(number) for number in case.rng.permutation(12)[: shape[1]]]}
        kind = "seq(map(int64, float))"
    case.node([case.input(case.values(FLOAT, shape if case.chance(0.8) else shape[1:]))], [kind], **attributes)


def class_labels(
    case: Case, count: int, integers: str, strings: str = "classlabels_strings"
) -> tuple[dict[str, list], int]:
    """Attributes that name the classes, and the type of the labels."""
    if case.type("T2") == STRING:
        return {strings: [str(name) for name in case.rng.permutation(np.array(NAMES[1:], object))[:count]]}, STRING
    return {integers: [int(number) for number in case.rng.permutation(np.arange(-2, 9))[:count]]}, INT64
