"""Finds libapus, loads it, and declares its functions as apus.h has them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from ctypes import POINTER, c_bool, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from ._errors import InvalidArgument, LibraryNotFoundError

EXTENSION = "_apus.abi3.so"
API_VERSION = 8  # the version of apus.h that the declarations below follow

_TEXT, _TEXTS, _HANDLES = c_char_p, POINTER(c_char_p), POINTER(c_void_p)


def text(value: str | os.PathLike[str]) -> bytes:
    """A name or path as the library takes it: up to the first NUL, so that none may hold one."""
    encoded = os.fsencode(value) if isinstance(value, os.PathLike) else value.encode(errors="surrogateescape")
    if b"\0" in encoded:
        raise InvalidArgument(f"{os.fspath(value)!r} holds a NUL, which no name or path can have")
    return encoded


def texts(values: Iterable[str]) -> ctypes.Array[c_char_p]:
    encoded = [text(value) for value in values]
    return (c_char_p * len(encoded))(*encoded)


class Buffer(ctypes.Structure):
    """An apus_buffer."""

    _fields_ = (("data", c_void_p), ("byte_count", c_size_t))


# Functions that compute, allocate or read files: called with the interpreter's lock released. Result None is no result;
# "error" is an apus_error *.
_SLOW: dict[str, tuple[Any, list[Any]]] = {
    "model_load_file": ("error", [_TEXT, c_void_p, _HANDLES]),
    "model_load_bytes": ("error", [c_void_p, c_size_t, _TEXT, c_void_p, _HANDLES]),
    "model_compile_file": ("error", [_TEXT, c_void_p, _TEXT]),
    "engine_release": (None, [c_void_p]),
    "model_release": (None, [c_void_p]),
    "model_release_memory": (None, [c_void_p]),
    "model_run": ("error", [c_void_p, _TEXTS, _HANDLES, c_size_t, _TEXTS, c_size_t, c_void_p, _HANDLES]),
    "model_run_into": (
        "error",
        [c_void_p, _TEXTS, _HANDLES, c_size_t, _TEXTS, c_size_t, POINTER(Buffer), c_void_p, _HANDLES],
    ),
    "model_run_donating": (
        "error",
        [c_void_p, _TEXTS, _HANDLES, POINTER(c_bool), c_size_t, _TEXTS, c_size_t, c_void_p, _HANDLES],
    ),
    "model_write_profile": ("error", [c_void_p, _TEXT]),
    "tensor_data_mutable": ("error", [c_void_p, _HANDLES]),
    "tensor_create_strings": ("error", [POINTER(c_int64), c_size_t, _TEXTS, POINTER(c_size_t), _HANDLES]),
    "tensor_strings": ("error", [c_void_p, _HANDLES, POINTER(POINTER(c_size_t))]),
    "map_create": ("error", [c_void_p, c_void_p, _HANDLES]),
    "map_values": ("error", [c_void_p, _HANDLES]),
}

# Functions that answer at once: called with the lock held, which is cheaper.
_QUICK: dict[str, tuple[Any, list[Any]]] = {
    "api_version": (c_int32, []),
    "version": (_TEXT, []),
    "set_seed": (None, [c_int64]),
    "error_code": (c_int32, [c_void_p]),
    "error_message": (_TEXT, [c_void_p]),
    "error_release": (None, [c_void_p]),
    "engine_create": ("error", [c_int32, c_uint64, _HANDLES]),
    "engine_thread_count": (c_int32, [c_void_p]),
    "engine_memory_budget": (c_uint64, [c_void_p]),
    "engine_memory_in_use": (c_uint64, [c_void_p]),
    "options_create": (c_void_p, []),
    "options_set_threads": ("error", [c_void_p, c_int32]),
    "options_set_engine": ("error", [c_void_p, c_void_p]),
    "options_set_priority": ("error", [c_void_p, c_int32]),
    "options_set_optimize": ("error", [c_void_p, c_bool]),
    "options_disable_pass": ("error", [c_void_p, _TEXT]),
    "options_set_dimension": ("error", [c_void_p, _TEXT, c_int64]),
    "options_set_shape": ("error", [c_void_p, _TEXT, POINTER(c_int64), c_size_t]),
    "options_add_output": ("error", [c_void_p, _TEXT]),
    "options_override_initializer": ("error", [c_void_p, _TEXT]),
    "options_set_maximum_run_memory": ("error", [c_void_p, c_uint64]),
    "options_set_map_files": ("error", [c_void_p, c_bool]),
    "options_set_precision": ("error", [c_void_p, _TEXT]),
    "options_set_profiling": ("error", [c_void_p, c_bool]),
    "options_release": (None, [c_void_p]),
    "model_input_count": (c_size_t, [c_void_p]),
    "model_input": (c_void_p, [c_void_p, c_size_t]),
    "model_output_count": (c_size_t, [c_void_p]),
    "model_output": (c_void_p, [c_void_p, c_size_t]),
    "model_overridable_count": (c_size_t, [c_void_p]),
    "model_overridable": (c_void_p, [c_void_p, c_size_t]),
    "value_info_name": (_TEXT, [c_void_p]),
    "value_info_type": (_TEXT, [c_void_p]),
    "value_info_rank": (c_int32, [c_void_p]),
    "value_info_dimension": (c_int64, [c_void_p, c_int32]),
    "value_info_symbol": (_TEXT, [c_void_p, c_int32]),
    "model_graph_name": (_TEXT, [c_void_p]),
    "model_producer_name": (_TEXT, [c_void_p]),
    "model_producer_version": (_TEXT, [c_void_p]),
    "model_domain": (_TEXT, [c_void_p]),
    "model_description": (_TEXT, [c_void_p]),
    "model_version": (c_int64, [c_void_p]),
    "model_ir_version": (c_int64, [c_void_p]),
    "model_metadata_count": (c_size_t, [c_void_p]),
    "model_metadata_key": (_TEXT, [c_void_p, c_size_t]),
    "model_metadata_value": (_TEXT, [c_void_p, c_size_t]),
    "model_opset_count": (c_size_t, [c_void_p]),
    "model_opset_domain": (_TEXT, [c_void_p, c_size_t]),
    "model_opset_version": (c_int64, [c_void_p, c_size_t]),
    "model_thread_count": (c_int32, [c_void_p]),
    "cancellation_create": (c_void_p, [c_double]),
    "cancellation_cancel": (None, [c_void_p]),
    "cancellation_release": (None, [c_void_p]),
    "tensor_create_borrowed": (
        "error",
        [c_int32, POINTER(c_int64), c_size_t, c_void_p, c_size_t, c_void_p, c_void_p, _HANDLES],
    ),
    "tensor_create": ("error", [c_int32, POINTER(c_int64), c_size_t, c_void_p, c_size_t, _HANDLES]),
    "sequence_create": ("error", [_HANDLES, c_size_t, _TEXT, _HANDLES]),
    "optional_create": ("error", [c_void_p, _TEXT, _HANDLES]),
    "value_release": (None, [c_void_p]),
    "value_kind": (c_int32, [c_void_p]),
    "tensor_element_type": (c_int32, [c_void_p]),
    "tensor_rank": (c_size_t, [c_void_p]),
    "tensor_shape": (POINTER(c_int64), [c_void_p]),
    "tensor_element_count": (c_size_t, [c_void_p]),
    "tensor_byte_count": (c_size_t, [c_void_p]),
    "tensor_data": (c_void_p, [c_void_p]),
    "sequence_count": (c_size_t, [c_void_p]),
    "sequence_element": ("error", [c_void_p, c_size_t, _HANDLES]),
    "map_keys": ("error", [c_void_p, _HANDLES]),
    "optional_content": ("error", [c_void_p, _HANDLES]),
}


def candidates() -> list[Path]:
    """Where the library may be, best first: APUS_LIBRARY alone if set, the wheel, a build."""
    if named := os.environ.get("APUS_LIBRARY"):
        return [Path(named)]
    package = Path(__file__).resolve().parent
    places = [package / "lib" / "libapus-c.so"]
    if len(package.parents) > 2:
        build = package.parents[2] / ".build"
        places += [build / configuration / "libapus-c.so" for configuration in ("release", "debug")]
    return places


class Library:
    """The functions of libapus without their prefix; those that can fail raise what `raise_error` makes of the
    error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handles = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        version = self._handles[1].apus_api_version()
        if version < API_VERSION:
            raise LibraryNotFoundError(
                f"{path} has version {version} of the interface; version {API_VERSION} is needed. Build it again"
            )
        self.declare(_SLOW, _QUICK)

    def declare(self, slow: dict[str, tuple[Any, list[Any]]], quick: dict[str, tuple[Any, list[Any]]]) -> None:
        """Makes attributes of functions, given as the tables above have them."""
        for table, handle in zip((slow, quick), self._handles, strict=True):
            for name, (result, arguments) in table.items():
                function = getattr(handle, f"apus_{name}")
                function.argtypes = arguments
                function.restype = c_void_p if result == "error" else result
                if result == "error":
                    function.errcheck = self._check
                setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)  # declares to type checkers that attributes are made at run time

    def _check(self, error: int | None, function: Any, arguments: Any) -> None:
        if error:
            from ._errors import make_error

            code, message = self.error_code(error), self.error_message(error).decode()
            self.error_release(error)
            raise make_error(code, message)


@cache
def library() -> Library:
    """The library, loaded at the first call."""
    places = candidates()
    for place in places:
        if place.exists():
            try:
                return Library(place)
            except OSError as error:
                raise LibraryNotFoundError(f"{place} cannot be loaded: {error}") from error
    raise LibraryNotFoundError(
        "libapus-c.so is not there; looked in "
        + ", ".join(map(str, places))
        + ". In a checkout, `swift build -c release --product apus-c` makes it; "
        "APUS_LIBRARY may name one that lies elsewhere"
    )


def _extension_of_checkout(package: Path) -> Path:
    """Where the extension of a checkout lies; compiled first if it is not there or older than its source."""
    root, source = package.parents[2], package / "_apus.c"
    place, tool = root / ".build/python" / EXTENSION, root / "tools/build-python-extension"
    try:
        is_stale = not place.exists() or place.stat().st_mtime < source.stat().st_mtime
        if is_stale and tool.exists() and any(map(shutil.which, ("cc", "clang", "gcc"))):
            subprocess.run([sys.executable, str(tool)], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):  # then calls cost more
        pass
    return place


@cache
def extension() -> Any:
    """The extension module `_apus`, which makes runs cheaper and nothing else: beside the package in a wheel, or where
    tools/build-python-extension puts it, which a checkout does by itself. None if it is not there, cannot be loaded, or
    APUS_EXTENSION=0 forbids it."""
    if os.environ.get("APUS_EXTENSION") == "0" or sys.version_info < (3, 11):
        return None
    package = Path(__file__).resolve().parent
    places = [package / EXTENSION]
    if len(package.parents) > 2:
        places.append(_extension_of_checkout(package))
    for place in places:
        spec = importlib.util.spec_from_file_location("apus._apus", place) if place.exists() else None
        if spec is None or spec.loader is None:
            continue
        try:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.load(str(library().path))
        except ImportError:  # of another architecture, say, or older than the library
            continue
        return module
    return None
