"""Values of the library from and to Python: arrays, lists, dictionaries, None.

NumPy arrays go in without a copy and come out without one. What went in must not change until the run has ended; what
came out belongs to the caller, who may write to it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._errors import InputError, NotImplemented
from ._library import library
from ._types import BY_NUMBER, STRING, ElementType, ValueType, dtype, element_type, pack, unpack

TENSOR, SEQUENCE, MAP, OPTIONAL = 1, 2, 3, 4


class Handles:
    """Makes values of the library out of Python's, and keeps alive what they refer to until `close`."""

    def __init__(self) -> None:
        self._handles: list[int] = []
        self._arrays: list[np.ndarray] = []
        self.borrowed: list[Held] = []

    def __enter__(self) -> Handles:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            library().value_release(handle)
        self._handles.clear()
        self._arrays.clear()
        for held in self.borrowed:
            held.give_back()
        self.borrowed.clear()

    def _keep(self, handle: ctypes.c_void_p) -> int:
        assert handle.value is not None
        self._handles.append(handle.value)
        return handle.value

    def make(self, value: Any, declared: ValueType | None, name: str) -> int:
        """The handle of `value` as `declared` has it, or by its own type where nothing is declared."""
        if isinstance(value, Held):
            value = value.lend(self)
            if isinstance(value, int):
                return value
        if declared is None or declared.kind == "tensor":
            if declared is None and isinstance(value, Mapping):
                return self._map(value, None, name)
            if declared is None and isinstance(value, (list, tuple)):
                return self._sequence(value, None, name)
            return self._tensor(value, declared.element if declared else None, name)
        if declared.kind == "optional":
            return self._optional(value, declared, name)
        if declared.kind == "seq":
            return self._sequence(value, declared, name)
        return self._map(value, declared, name)

    def _tensor(self, value: Any, declared: ElementType | None, name: str) -> int:
        if value is None or isinstance(value, Mapping):
            raise InputError(f"input '{name}' is {type(value).__name__}; a tensor was expected")
        if isinstance(value, (np.ndarray, np.generic)) or declared is None:
            array = np.asarray(value)
        else:
            array = np.asarray(value, dtype=dtype(declared))
        element = element_type(array)
        if element is None:
            raise InputError(f"input '{name}' is an array of {array.dtype}, which no type of ONNX is")
        if element.number == STRING:
            return self._strings(array, name)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        # ascontiguousarray makes one axis of none, so the shape is taken before.
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        rank = array.ndim
        array = np.ascontiguousarray(array)
        if element.bits < 8:
            array = pack(array.reshape(-1).view(np.uint8), element.bits)
        self._arrays.append(array)
        result = ctypes.c_void_p()
        library().tensor_create_borrowed(
            element.number, shape, rank, array.ctypes.data, array.nbytes, None, None, ctypes.byref(result)
        )
        return self._keep(result)

    def _strings(self, array: np.ndarray, name: str) -> int:
        texts = []
        for item in array.reshape(-1).tolist():
            if isinstance(item, str):
                texts.append(item.encode())
            elif isinstance(item, bytes):
                texts.append(item)
            else:
                raise InputError(f"input '{name}' holds {item!r}; its elements must be str or bytes")
        lengths = (ctypes.c_size_t * len(texts))(*map(len, texts))
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        result = ctypes.c_void_p()
        library().tensor_create_strings(
            shape, array.ndim, (ctypes.c_char_p * len(texts))(*texts), lengths, ctypes.byref(result)
        )
        return self._keep(result)

    def _sequence(self, value: Any, declared: ValueType | None, name: str) -> int:
        # An array is the sequence of its rows.
        if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes)):
            raise InputError(f"input '{name}' is {type(value).__name__}; a list was expected")
        content = declared.content if declared else None
        elements = [self.make(element, content, f"{name}[{index}]") for index, element in enumerate(value)]
        handles = (ctypes.c_void_p * len(elements))(*elements)
        result = ctypes.c_void_p()
        spelled = content.text.encode() if content else None
        library().sequence_create(handles, len(elements), spelled, ctypes.byref(result))
        return self._keep(result)

    def _map(self, value: Any, declared: ValueType | None, name: str) -> int:
        if not isinstance(value, Mapping):
            raise InputError(f"input '{name}' is {type(value).__name__}; a dictionary was expected")
        key_type = declared.element if declared else None
        content = declared.content if declared else None
        texts = key_type.number == STRING if key_type else any(isinstance(key, str) for key in value)
        key_dtype = object if texts else dtype(key_type) if key_type else np.int64
        keys = self.make(np.array(list(value), dtype=key_dtype), None, f"{name}.keys")
        values = self._sequence(
            [value[key] for key in value], ValueType("", "seq", None, content) if content else None, f"{name}.values"
        )
        result = ctypes.c_void_p()
        library().map_create(keys, values, ctypes.byref(result))
        return self._keep(result)

    def _optional(self, value: Any, declared: ValueType, name: str) -> int:
        content = None if value is None else self.make(value, declared.content, name)
        spelled = declared.content.text.encode() if declared.content else None
        result = ctypes.c_void_p()
        library().optional_create(content, spelled, ctypes.byref(result))
        return self._keep(result)


class Held:
    """A tensor of the library that no array lies over yet: it goes into another run as it is, with the room behind it
    if it is a cache."""

    __slots__ = ("_array", "_handle", "_lock", "_release", "_runs", "shape")

    def __init__(self, handle: int) -> None:
        lib = library()
        self._handle: int | None = handle
        self._array: Any = None
        self._lock = threading.Lock()
        # That read the tensor at the moment.
        self._runs = 0
        self._release = lib.value_release
        self.shape = tuple(lib.tensor_shape(handle)[: lib.tensor_rank(handle)])

    def __del__(self) -> None:
        self._release(self._handle)

    def lend(self, run: Handles) -> Any:
        """The handle, which stays as it is until the run gives it back; the array, if there is one already."""
        with self._lock:
            if self._array is not None or self._handle is None:
                return self._array
            self._runs += 1
            run.borrowed.append(self)
            return self._handle

    def give_back(self) -> None:
        with self._lock:
            self._runs -= 1

    def surrender(self, run: Handles) -> bool:
        """Whether the handle that was lent to a run is given away with it: not if the run or another one reads it too,
        or if the array was lent."""
        with self._lock:
            if self._runs != 1 or self not in run.borrowed:
                return False
            run.borrowed.remove(self)
            self._runs, self._handle = 0, None
            return True

    @property
    def is_given(self) -> bool:
        """Whether a run has taken the tensor."""
        with self._lock:
            return self._handle is None and self._array is None

    def made(self) -> Any:
        """The array over the tensor, if somebody has asked for it already."""
        with self._lock:
            return self._array

    def array(self) -> Any:
        """The array over the tensor, or a copy of it while a run reads it. The same one each time."""
        with self._lock:
            if self._array is None and self._handle is not None:
                if self._runs:
                    self._array = _copy(self._handle)
                else:
                    handle, self._handle = self._handle, None
                    self._array = take(handle)
            return self._array


def hold(handle: int) -> Any:
    """A tensor of numbers as it is, any other value as Python has it; takes the handle over."""
    lib = library()
    is_held = lib.value_kind(handle) == TENSOR and lib.tensor_element_type(handle) != STRING
    return Held(handle) if is_held else take(handle)


def _copy(handle: int) -> Any:
    """A tensor's elements in an array of their own."""
    lib = library()
    result = ctypes.c_void_p()
    lib.tensor_create(
        lib.tensor_element_type(handle),
        lib.tensor_shape(handle),
        lib.tensor_rank(handle),
        lib.tensor_data(handle),
        lib.tensor_byte_count(handle),
        ctypes.byref(result),
    )
    assert result.value is not None
    return take(result.value)


class Owner:
    """Gives up a handle when no array refers to its memory any more."""

    __slots__ = ("__array_interface__", "_handle", "_release")

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._release = library().value_release
        self.__array_interface__: dict[str, Any] = {}

    def __del__(self) -> None:
        self._release(self._handle)


def take(handle: int) -> Any:
    """The value behind a handle, which it takes over."""
    kind = library().value_kind(handle)
    if kind == TENSOR:
        return _array(handle)
    try:
        if kind == SEQUENCE:
            return [_part("sequence_element", handle, index) for index in range(library().sequence_count(handle))]
        if kind == MAP:
            return _dictionary(handle)
        if kind == OPTIONAL:
            return _part("optional_content", handle)
        raise InputError(f"this package does not know values of kind {kind}")
    finally:
        library().value_release(handle)


def _part(function: str, handle: int, *arguments: int) -> Any:
    result = ctypes.c_void_p()
    getattr(library(), function)(handle, *arguments, ctypes.byref(result))
    return None if result.value is None else take(result.value)


def _dictionary(handle: int) -> dict[Any, Any]:
    keys, values = _part("map_keys", handle), _part("map_values", handle)
    # Scalars come as Python has them, everything else as arrays.
    if isinstance(values, np.ndarray):
        values = values.tolist() if values.ndim == 1 else list(values)
    else:
        values = [item.item() if isinstance(item, np.ndarray) and item.ndim == 0 else item for item in values]
    return dict(zip(keys.tolist(), values, strict=True))


#: The most axes of an array.
LARGEST_RANK = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32


def _array(handle: int) -> np.ndarray:
    """A tensor as an array over the library's memory, where that is one element for each of NumPy's."""
    owner = Owner(handle)
    lib = library()
    element = BY_NUMBER[lib.tensor_element_type(handle)]
    shape = tuple(lib.tensor_shape(handle)[: lib.tensor_rank(handle)])
    if len(shape) > LARGEST_RANK:
        raise NotImplemented(f"the tensor has {len(shape)} axes; a NumPy array has at most {LARGEST_RANK}")
    if element.number == STRING:
        return _string_array(handle, shape)
    data = ctypes.c_void_p()
    lib.tensor_data_mutable(handle, ctypes.byref(data))
    kind = dtype(element)
    if element.bits < 8:
        owner.__array_interface__ = _interface((lib.tensor_byte_count(handle),), "|u1", data.value)
        elements = unpack(np.asarray(owner), element.bits, lib.tensor_element_count(handle))
        return elements.view(kind).reshape(shape)
    # NumPy's array interface has no name for the types of ml_dtypes; they are unsigned integers until the view.
    spelled = kind.str if kind.isbuiltin == 1 else f"<u{kind.itemsize}"
    owner.__array_interface__ = _interface(shape, spelled, data.value)
    array = np.asarray(owner)
    return array if kind.isbuiltin == 1 else array.view(kind)


def _interface(shape: tuple[int, ...], spelled: str, address: int | None) -> dict[str, Any]:
    return {"version": 3, "shape": shape, "typestr": spelled, "data": (address or 0, False)}


def _string_array(handle: int, shape: tuple[int, ...]) -> np.ndarray:
    count = library().tensor_element_count(handle)
    block, offsets = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_size_t)()
    library().tensor_strings(handle, ctypes.byref(block), ctypes.byref(offsets))
    bounds = offsets[: count + 1]
    content = ctypes.string_at(block.value, bounds[count]) if block.value is not None else b""
    array = np.empty(count, dtype=object)
    for index in range(count):
        array[index] = content[bounds[index] : bounds[index + 1] - 1].decode()
    return array.reshape(shape)
