"""Sources of compression and what is made of them, over the functions of apus.h that are about these."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_double, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from ._errors import InvalidArgument, NoSuchFile
from ._library import Library, library, text
from ._session import InferenceSession, Loadable, NodeArg
from ._session import _describe_all as describe_all
from ._session import _options as open_options

NEXT_SAMPLE = CFUNCTYPE(c_bool, c_void_p, c_void_p)
RESTART = CFUNCTYPE(c_bool, c_void_p)
MEASURE = CFUNCTYPE(c_bool, c_void_p, c_void_p, POINTER(c_double))
PROGRESS = CFUNCTYPE(c_bool, c_void_p, c_char_p, c_int64, c_int64)
NO_CALL = 0


class Calls(ctypes.Structure):
    """An apus_quantization_calls."""

    _fields_ = (
        ("context", c_void_p),
        ("next_sample", NEXT_SAMPLE),
        ("restart_samples", RESTART),
        ("sample_count", c_int64),
        ("measure", MEASURE),
        ("progress", PROGRESS),
    )


_HANDLE = POINTER(c_void_p)
_SLOW: dict[str, tuple[Any, list[Any]]] = {
    "source_read_file": ("error", [c_char_p, c_void_p, _HANDLE]),
    "source_read_bytes": ("error", [c_char_p, c_size_t, c_char_p, c_void_p, _HANDLE]),
    "source_quantize": ("error", [c_void_p, c_char_p, POINTER(Calls), _HANDLE]),
    "source_prune": ("error", [c_void_p, c_char_p, _HANDLE]),
    "source_cluster": ("error", [c_void_p, c_char_p, _HANDLE]),
    "source_sparsity": ("error", [c_void_p, POINTER(c_char_p)]),
    "source_release": (None, [c_void_p]),
    "compressed_save": ("error", [c_void_p, c_char_p, c_int64]),
    "compressed_bytes": ("error", [c_void_p, POINTER(c_void_p), POINTER(c_size_t)]),
    "compressed_load": ("error", [c_void_p, c_void_p, _HANDLE]),
    "compressed_release": (None, [c_void_p]),
}
_QUICK: dict[str, tuple[Any, list[Any]]] = {
    "source_input_count": (c_size_t, [c_void_p]),
    "source_input": (c_void_p, [c_void_p, c_size_t]),
    "sample_set": ("error", [c_void_p, c_char_p, c_void_p]),
    "compressed_report": (c_char_p, [c_void_p]),
    "compressed_page": (c_char_p, [c_void_p]),
}


@cache
def functions() -> Library:
    """The library, with the functions of this module."""
    lib = library()
    lib.declare(_SLOW, _QUICK)
    return lib


def _with_numbers(entry: dict[str, Any]) -> dict[str, Any]:
    """An object of a report with its figures as numbers: JSON has no word for what is infinite."""
    for key, value in entry.items():
        if value in ("Infinity", "-Infinity", "NaN") and key.endswith(("sqnr", "quality", "error")):
            entry[key] = float(value)
    return entry


class CompressedModel(Loadable):
    """A smaller model, and the report of what it costs.

    `report` is what the command prints with `--json`, as a dictionary; `outputs`, `nodes`, `weights` and `kept` are its
    lists of that name, empty where it has none. `save` writes the model, `to_bytes` gives it as a file in memory, and
    `session` runs it.
    """

    def __init__(self, handle: int) -> None:
        lib = functions()
        self._release = lib.compressed_release
        self._handle = handle
        self.report: dict[str, Any] = json.loads(lib.compressed_report(handle).decode(), object_hook=_with_numbers)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._release(self._handle)

    def __repr__(self) -> str:
        figures = ", ".join(f"{len(self._list(name))} {name}" for name in ("nodes", "weights") if self._list(name))
        return f"CompressedModel({figures})"

    def _list(self, name: str) -> list[dict[str, Any]]:
        for report in (self.report, self.report.get("pruning"), self.report.get("clustering")):
            if report and name in report:
                return list(report[name])
        return []

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """How far the outputs are from those of the float model: `name`, `sqnr` in decibels, `cosine`,
        `largest_error`. Of integers, where it was measured."""
        return self._list("outputs")

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes on integers: `name`, `op`, types, range, `weight_sqnr`, and, where they are known, `sqnr` (infinite
        without noise), `cosine`, `saturation`, `share_of_loss`."""
        return self._list("nodes")

    @property
    def weights(self) -> list[dict[str, Any]]:
        """The weights that were changed, of what is told by weight."""
        return self._list("weights")

    @property
    def kept(self) -> list[dict[str, Any]]:
        """What stays as it was, and the `reason`."""
        return self._list("kept")

    def json(self, indent: int | None = 2) -> str:
        """The report as JSON."""
        return json.dumps(self.report, indent=indent, sort_keys=True)

    def html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as one page of HTML with its pictures inside; for integers."""
        page = functions().compressed_page(self._handle)
        if page is None:
            raise InvalidArgument("only what was quantized to integers has a report as a page")
        target = Path(path)
        if target.suffix.lower() not in (".html", ".htm"):
            raise InvalidArgument(f"the page '{target}': expected a name that ends in .html")
        new = target.with_name(target.name + ".new")
        try:
            new.write_bytes(page)
            new.replace(target)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise NoSuchFile(f"{target} cannot be written: {error.strerror or error}") from error

    def save(self, path: str | os.PathLike[str], opset: int | None = None) -> None:
        """Writes the model as ONNX, for an operator set or the lowest that holds it. The file has its name when it is
        whole."""
        functions().compressed_save(self._handle, text(path), opset or 0)

    def to_bytes(self) -> bytes:
        """The model as the bytes of an ONNX file."""
        data, count = c_void_p(), c_size_t()
        functions().compressed_bytes(self._handle, ctypes.byref(data), ctypes.byref(count))
        return ctypes.string_at(data, count.value)

    def session(self, **options: Any) -> InferenceSession:
        """The model, ready to run; the options are those of `InferenceSession`."""
        return InferenceSession(self, **options)

    def _load(self, options: int) -> int:
        result = c_void_p()
        functions().compressed_load(self._handle, options, ctypes.byref(result))
        assert result.value is not None
        return result.value


class Given(Loadable):
    """A model that the library hands out to be measured."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def _load(self, options: int) -> int:
        return self._handle


class Source:
    """A model that was read to be made smaller."""

    def __init__(self, model: Any, folder: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        lib = functions()
        self._release = lib.source_release
        result = c_void_p()
        if hasattr(model, "SerializeToString"):
            model = model.SerializeToString()
        with open_options(settings) as options:
            if isinstance(model, (bytes, bytearray, memoryview)):
                content = bytes(model)
                place = None if folder is None else text(folder)
                lib.source_read_bytes(content, len(content), place, options, ctypes.byref(result))
            elif not isinstance(model, (str, os.PathLike)):
                raise TypeError(f"the model is {type(model).__name__}; expected a path, bytes or an onnx.ModelProto")
            elif folder is not None:
                raise InvalidArgument("external_data_folder is for models from bytes; with a path it is the model's")
            else:
                lib.source_read_file(text(model), options, ctypes.byref(result))
        assert result.value is not None
        self.handle = result.value
        self.inputs: list[NodeArg] = describe_all(lib.source_input_count, lib.source_input, self.handle)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._release(self.handle)

    def make(self, function: Callable[..., None], options: Mapping[str, Any], *more: Any) -> CompressedModel:
        result = c_void_p()
        function(self.handle, json_of(options), *more, ctypes.byref(result))
        assert result.value is not None
        return CompressedModel(result.value)


def json_of(options: Mapping[str, Any]) -> bytes:
    """Options that were given, as the library reads them."""
    given = {name: value for name, value in options.items() if value is not None}

    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if hasattr(value, "tolist"):  # arrays and numbers of NumPy
            return value.tolist()
        raise TypeError(f"an option holds {value!r}, a {type(value).__name__}")

    try:
        return json.dumps(given, default=plain, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidArgument(f"an option holds what is no number: {error}") from None
