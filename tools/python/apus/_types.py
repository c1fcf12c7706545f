"""Element types between ONNX, onnxruntime's spelling and NumPy; packed elements; types of values as text."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np


class ElementType(NamedTuple):
    """One element type of ONNX."""

    number: int  # as in TensorProto.DataType
    name: str  # as in tensor(NAME)
    numpy: str  # the dtype, of ml_dtypes where NumPy has none
    bits: int

    @property
    def is_of_numpy(self) -> bool:
        """True if NumPy has a dtype for it; those of the others are of ml_dtypes."""
        return self.number < _FIRST_OF_ML_DTYPES


STRING = 8
_FIRST_OF_ML_DTYPES = 16

ELEMENT_TYPES = [
    ElementType(1, "float", "float32", 32),
    ElementType(2, "uint8", "uint8", 8),
    ElementType(3, "int8", "int8", 8),
    ElementType(4, "uint16", "uint16", 16),
    ElementType(5, "int16", "int16", 16),
    ElementType(6, "int32", "int32", 32),
    ElementType(7, "int64", "int64", 64),
    ElementType(STRING, "string", "object", 0),
    ElementType(9, "bool", "bool", 8),
    ElementType(10, "float16", "float16", 16),
    ElementType(11, "double", "float64", 64),
    ElementType(12, "uint32", "uint32", 32),
    ElementType(13, "uint64", "uint64", 64),
    ElementType(14, "complex64", "complex64", 64),
    ElementType(15, "complex128", "complex128", 128),
    ElementType(16, "bfloat16", "bfloat16", 16),
    ElementType(17, "float8e4m3fn", "float8_e4m3fn", 8),
    ElementType(18, "float8e4m3fnuz", "float8_e4m3fnuz", 8),
    ElementType(19, "float8e5m2", "float8_e5m2", 8),
    ElementType(20, "float8e5m2fnuz", "float8_e5m2fnuz", 8),
    ElementType(21, "uint4", "uint4", 4),
    ElementType(22, "int4", "int4", 4),
    ElementType(23, "float4e2m1", "float4_e2m1fn", 4),
    ElementType(24, "float8e8m0", "float8_e8m0fnu", 8),
    ElementType(25, "uint2", "uint2", 2),
    ElementType(26, "int2", "int2", 2),
    ElementType(27, "float6e2m3", "float6_e2m3fn", 6),
    ElementType(28, "float6e3m2", "float6_e3m2fn", 6),
]
BY_NUMBER = {element.number: element for element in ELEMENT_TYPES}
BY_NAME = {element.name: element for element in ELEMENT_TYPES}
_BY_NUMPY = {element.numpy: element for element in ELEMENT_TYPES if element.number != STRING}


@cache
def dtype(element: ElementType) -> np.dtype:
    """The dtype of arrays of an element type; ml_dtypes is needed only for types that NumPy lacks."""
    if element.is_of_numpy:
        return np.dtype(element.numpy)
    import ml_dtypes

    found: np.dtype = np.dtype(getattr(ml_dtypes, element.numpy))
    return found


def element_type(array: np.ndarray) -> ElementType | None:
    """The element type of an array; None if ONNX has none for it. Objects, bytes and texts are strings."""
    return BY_NUMBER[STRING] if array.dtype.kind in "OUST" else _BY_NUMPY.get(array.dtype.name)


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """`count` elements of 2, 4 or 6 bits, each in the low bits of a byte of its own."""
    if bits == 6:
        flat = np.unpackbits(packed, count=count * 6, bitorder="little")
        return np.packbits(flat.reshape(count, 6), axis=1, bitorder="little").reshape(count)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((packed[:, np.newaxis] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]


def pack(elements: np.ndarray, bits: int) -> np.ndarray:
    """The reverse of `unpack`, for a flat array; bits above the element's are dropped."""
    if bits == 6:
        flat = np.unpackbits(elements[:, np.newaxis], axis=1, bitorder="little")[:, :6]
        return np.packbits(flat.reshape(-1), bitorder="little")
    each = 8 // bits
    padded = np.zeros(-(-elements.size // each) * each, dtype=np.uint8)
    padded[: elements.size] = elements & np.uint8((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(padded.reshape(-1, each) << shifts, axis=1))


class ValueType(NamedTuple):
    """A type of values: kind is tensor, seq, optional or map; `text` is the whole, as in "seq(tensor(float))"."""

    text: str
    kind: str
    element: ElementType | None = None  # of a tensor; of the keys of a map
    content: ValueType | None = None  # of a sequence, an optional, the values of a map


@cache
def parse_type(text: str) -> ValueType | None:
    """The type that the library spells; None for the empty text of an unknown type."""
    if not text:
        return None
    kind, _, rest = text.partition("(")
    inner = rest.removesuffix(")")
    if kind == "tensor":
        return ValueType(text, kind, BY_NAME[inner])
    if kind == "map":
        key, _, value = inner.partition(",")
        return ValueType(text, kind, BY_NAME[key], parse_type(value))
    return ValueType(text, kind, None, parse_type(inner))


def value_type_text(value: object) -> str:
    """The type of a value of Python as the library spells types; empty for None, and for a list without elements."""
    if isinstance(value, (np.ndarray, np.generic)):
        element = element_type(np.asarray(value))
        return f"tensor({element.name})" if element else ""
    if isinstance(value, list):
        return f"seq({value_type_text(value[0])})" if value else ""
    if isinstance(value, dict):
        key, content = next(iter(value.items()), (0, 0.0))
        name = "string" if isinstance(key, str) else "int64"
        return f"map({name},{value_type_text(np.asarray(content))})"
    return ""
