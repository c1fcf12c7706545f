"""Values of every ONNX type: their declared types, their files, and how far two of them are apart."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper

ELEMENT_TYPES: dict[str, int] = {
    f"tensor({name.lower()})": number for name, number in TensorProto.DataType.items() if number
}
T = TensorProto
FLOATS = (T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16)
FLOAT8 = (T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ, T.FLOAT8E8M0)
NARROW_FLOATS = (*FLOAT8, T.FLOAT4E2M1, T.FLOAT6E2M3, T.FLOAT6E3M2)
NARROW_INTEGERS = (T.INT4, T.UINT4, T.INT2, T.UINT2)
SIGNED = (T.INT8, T.INT16, T.INT32, T.INT64, T.INT4, T.INT2)
UNSIGNED = (T.UINT8, T.UINT16, T.UINT32, T.UINT64, T.UINT4, T.UINT2)
INTEGERS = (*SIGNED, *UNSIGNED)
COMPLEX = (T.COMPLEX64, T.COMPLEX128)


def is_float(elem_type: int) -> bool:
    return elem_type in FLOATS or elem_type in NARROW_FLOATS


def dtype_of(elem_type: int) -> np.dtype:
    """The NumPy or ml_dtypes type of an element type; object for strings."""
    return helper.tensor_dtype_to_np_dtype(elem_type)


def elem_type_of(array: np.ndarray) -> int:
    return T.STRING if array.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(array.dtype)


def limits(elem_type: int) -> tuple[int, int]:
    """The least and the largest number of an integer type."""
    info = ml_dtypes.iinfo(dtype_of(elem_type))
    return int(info.min), int(info.max)


def type_proto(text: str, shape: list[int | str] | None = None) -> TypeProto:
    """The type that a string of a schema names: tensor(float), seq(tensor(int64)), map(int64, float), …"""
    text = text.strip()
    if text in ELEMENT_TYPES:
        return helper.make_tensor_type_proto(ELEMENT_TYPES[text], shape)
    kind, inner = text.split("(", 1)
    inner = inner[:-1]
    if kind == "seq":
        return helper.make_sequence_type_proto(type_proto(inner))
    if kind == "optional":
        return helper.make_optional_type_proto(type_proto(inner))
    if kind == "map":
        key, value = inner.split(",", 1)
        value = value.strip()
        return helper.make_map_type_proto(
            ELEMENT_TYPES[f"tensor({key.strip()})"], type_proto(value if "(" in value else f"tensor({value})", [])
        )
    raise ValueError(f"no such type: {text}")


def type_text(proto: TypeProto) -> str:
    """The inverse of type_proto."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        return f"tensor({TensorProto.DataType.Name(proto.tensor_type.elem_type).lower()})"
    if kind == "sequence_type":
        return f"seq({type_text(proto.sequence_type.elem_type)})"
    if kind == "optional_type":
        return f"optional({type_text(proto.optional_type.elem_type)})"
    if kind == "map_type":
        key = TensorProto.DataType.Name(proto.map_type.key_type).lower()
        value = type_text(proto.map_type.value_type)
        return f"map({key}, {value.removeprefix('tensor(').removesuffix(')')})"
    return "?"


def type_of_value(value: Any) -> str:
    """The type of a value as a schema's string; an empty list counts as a sequence of float tensors."""
    if isinstance(value, dict):
        key, item = next(iter(value.items()), (0, 0.0))
        key_type = "string" if isinstance(key, str) else "int64"
        item_type = "string" if isinstance(item, str) else "int64" if isinstance(item, int | np.integer) else "float"
        return f"map({key_type}, {item_type})"
    if isinstance(value, list):
        return f"seq({type_of_value(value[0]) if value else 'tensor(float)'})"
    return f"tensor({TensorProto.DataType.Name(elem_type_of(np.asarray(value))).lower()})"


def normalized(value: Any, proto: TypeProto) -> Any:
    """A result of an oracle in the form in which generators give values. ValueError where it is not of the type."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        array = np.asarray(value)
        expected = dtype_of(proto.tensor_type.elem_type)
        if expected == object and array.dtype.kind in "OUS":
            return np.array([str(text) for text in array.ravel()], dtype=object).reshape(array.shape)
        if array.dtype != expected:
            raise ValueError(f"the oracle gives {array.dtype}; the model declares {expected}")
        return array
    if kind == "sequence_type":
        if not isinstance(value, list | tuple | np.ndarray):
            raise ValueError(f"the oracle gives {type(value).__name__} for a sequence")
        return [normalized(item, proto.sequence_type.elem_type) for item in value]
    if kind == "optional_type":
        return None if value is None else normalized(value, proto.optional_type.elem_type)
    return dict(value)


def to_proto(value: Any, proto: TypeProto, name: str = "") -> Any:
    """The TensorProto, SequenceProto, OptionalProto or MapProto of a value of the type."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        return numpy_helper.from_array(np.asarray(value, dtype_of(proto.tensor_type.elem_type)), name)
    if kind == "map_type":
        return map_proto(value, proto, name)
    numbers = {"tensor_type": 1, "sequence_type": 3, "map_type": 4, "optional_type": 5}
    fields = {1: "tensor", 3: "sequence", 4: "map", 5: "optional"}
    inner = proto.sequence_type.elem_type if kind == "sequence_type" else proto.optional_type.elem_type
    number = numbers[inner.WhichOneof("value")]
    if kind == "optional_type":
        result = onnx.OptionalProto(name=name, elem_type=0 if value is None else number)
        if value is not None:
            getattr(result, f"{fields[number]}_value").CopyFrom(to_proto(value, inner))
        return result
    sequence = onnx.SequenceProto(name=name, elem_type=number)
    for item in value:
        getattr(sequence, f"{fields[number]}_values").append(to_proto(item, inner))
    return sequence


def map_proto(value: dict, proto: TypeProto, name: str) -> onnx.MapProto:
    result = onnx.MapProto(name=name, key_type=proto.map_type.key_type)
    if proto.map_type.key_type == T.STRING:
        result.string_keys.extend(key.encode() for key in value)
    else:
        result.keys.extend(int(key) for key in value)
    result.values.elem_type = 1
    for item in value.values():
        result.values.tensor_values.append(to_proto(item, proto.map_type.value_type))
    return result


def comparable(array: np.ndarray) -> np.ndarray:
    """Numbers to compare: floats narrower than 16 bits by their place in the order of their type."""
    elem_type = elem_type_of(array)
    if elem_type in NARROW_FLOATS:
        return steps(array)
    if elem_type in NARROW_INTEGERS:
        return array.astype(np.int64)
    return array.astype(np.float32) if elem_type == T.BFLOAT16 else array


def steps(array: np.ndarray) -> np.ndarray:
    """The place of each narrow float in the order of its type, both zeros at 0; NaN stays NaN."""
    info = ml_dtypes.finfo(array.dtype)
    codes = array.view(np.uint8).astype(np.float64)
    if elem_type_of(array) == T.FLOAT8E8M0:
        places = codes
    else:
        sign = float(1 << (info.bits - 1))
        places = np.where(codes >= sign, -(codes - sign), codes)
    return np.where(np.isnan(array.astype(np.float32)), np.nan, places)


def difference(found: Any, expected: Any, rtol: float, atol: float, values: bool = True) -> str | None:
    """What differs, or None: the rule of `apus conformance`. Without `values` only types and shapes count."""
    if isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return f"{len(found)} elements in the sequence against {len(expected)}"
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            if inner := difference(one, other, rtol, atol, values):
                return f"element {index} of the sequence: {inner}"
        return None
    if isinstance(found, dict) and isinstance(expected, dict):
        if list(found) != list(expected):
            return f"keys {list(found)} against {list(expected)}"
        pairs = [np.asarray(list(value.values())) for value in (found, expected)]
        return difference(*pairs, rtol, atol, values)
    if found is None or expected is None:
        return None if found is expected else f"{found!r} against {expected!r}"
    if not isinstance(found, np.ndarray) or not isinstance(expected, np.ndarray):
        return f"{type(found).__name__} against {type(expected).__name__}"
    return tensor_difference(found, expected, rtol, atol, values)


def tensor_difference(found: np.ndarray, expected: np.ndarray, rtol: float, atol: float, values: bool) -> str | None:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{found.dtype}{list(found.shape)} against {expected.dtype}{list(expected.shape)}"
    if not values or found.size == 0:
        return None
    a, b = comparable(found), comparable(expected)
    if a.dtype == object or a.dtype == bool:
        unequal = a != b
    else:
        unequal = np.array(~(a == b))
        if a.dtype.kind in "fc":
            unequal &= ~(np.isnan(a) & np.isnan(b))
            with np.errstate(all="ignore"):
                unequal &= ~near(a, b, rtol, atol)
        elif rtol or atol:
            wide = np.abs(a.astype(np.float64) - b.astype(np.float64))
            unequal &= wide > atol + rtol * np.abs(b.astype(np.float64))
    if not np.any(unequal):
        return None
    place = tuple(int(index) for index in np.argwhere(unequal)[0])
    pair = f"{found[place]} against {expected[place]}"
    return f"{int(np.sum(unequal))} of {found.size} elements, the first at {list(place)}: {pair}"


def near(a: np.ndarray, b: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Elements that are finite and within the tolerance; each part of a complex number by itself."""
    if a.dtype.kind == "c":
        return near(a.real, b.real, rtol, atol) & near(a.imag, b.imag, rtol, atol)
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) <= atol + rtol * np.abs(b))
