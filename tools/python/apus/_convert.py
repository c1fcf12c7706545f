"""Models in other formats. Imported when it is first used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from ._errors import NoSuchFile
from ._library import Library, library
from ._session import InferenceSession

_SLOW: dict[str, tuple[Any, list[Any]]] = {
    "convert": ("error", [c_char_p, c_char_p, c_char_p, POINTER(c_void_p)]),
    "conversion_release": (None, [c_void_p]),
}
_QUICK: dict[str, tuple[Any, list[Any]]] = {"conversion_report": (c_char_p, [c_void_p])}


@cache
def _functions() -> Library:
    lib = library()
    lib.declare(_SLOW, _QUICK)
    return lib


def load(model: str | os.PathLike[str] | bytes | Any, *args: Any, **options: Any) -> InferenceSession:
    """A model of any format that `apus formats` lists, ready to run: an `InferenceSession`, whose arguments it takes.

    >>> apus.load("mobilenet.tflite").run(None, {"image": pixels})
    """
    return InferenceSession(model, *args, **options)


def convert(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    opset: int | None = None,
    format: str | None = None,
    source_format: str | None = None,
    dim: Mapping[str, int | str] | None = None,
    shape: Mapping[str, Sequence[int | str]] | None = None,
    rename: Mapping[str, str] | None = None,
    nhwc_inputs: bool | None = None,
    nhwc_outputs: bool | None = None,
    nchw_inputs: bool | None = None,
    nchw_outputs: bool | None = None,
    layout: Mapping[str, str] | None = None,
    uint8_inputs: bool | None = None,
    resize_inputs: bool | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    picture: str | Iterable[str] | None = None,
    softmax: bool | None = None,
    top_k: int | None = None,
    scores: str | None = None,
    float16: bool | None = None,
    bfloat16: bool | None = None,
    keep_io: bool | None = None,
    keep_sensitive: bool | None = None,
    keep: str | Iterable[str] | None = None,
    external_data: str | None = None,
    external_threshold: int | None = None,
    external_align: int | None = None,
    embed_data: bool | None = None,
    metadata: Mapping[str, str] | None = None,
    drop_metadata: str | Iterable[str] | None = None,
    doc: str | None = None,
    model_version: int | None = None,
    ir_version: int | None = None,
    unchecked: bool | None = None,
) -> dict[str, Any]:
    """Writes a model in another format, for another operator set, or with other inputs and outputs. The options are
    those of `apus convert`, which docs/conversion.md explains; `format` is its `--to`, `source_format` its `--from`.

    >>> apus.convert("resnet.keras", "resnet.onnx", opset=17)
    >>> apus.convert("model.onnx", "older.onnx", opset=13, dim={"batch": 1}, rename={"input_1": "image"})
    >>> apus.convert("model.onnx", "bytes.onnx", nhwc_inputs=True, uint8_inputs=True, mean=[0.485, 0.456, 0.406])

    model: the path of a file of any format that `apus formats` lists. output: the file to write; its name says the
    format. If an error is raised, nothing was written. Returns what the command prints with `--json`.
    """
    folder = Path(output).absolute().parent
    if not folder.is_dir():
        raise NoSuchFile(f"{os.fspath(output)} cannot be written: there is no folder {folder}")
    options = {
        "opset": opset,
        "to": format,
        "from": source_format,
        "dim": None if dim is None else dict(dim),
        "shape": None if shape is None else {name: list(extents) for name, extents in shape.items()},
        "rename": None if rename is None else dict(rename),
        "nhwc_inputs": nhwc_inputs,
        "nhwc_outputs": nhwc_outputs,
        "nchw_inputs": nchw_inputs,
        "nchw_outputs": nchw_outputs,
        "layout": None if layout is None else dict(layout),
        "uint8_inputs": uint8_inputs,
        "resize_inputs": resize_inputs,
        "mean": _numbers(mean),
        "std": _numbers(std),
        "scale": scale,
        "picture": _names(picture),
        "softmax": softmax,
        "top_k": top_k,
        "scores": scores,
        "float16": float16,
        "bfloat16": bfloat16,
        "keep_io": keep_io,
        "keep_sensitive": keep_sensitive,
        "keep": _names(keep),
        "external_data": external_data,
        "external_threshold": external_threshold,
        "external_align": external_align,
        "embed_data": embed_data,
        "metadata": None if metadata is None else dict(metadata),
        "drop_metadata": _names(drop_metadata),
        "doc": doc,
        "model_version": model_version,
        "ir_version": ir_version,
        "unchecked": unchecked,
    }
    given = {name: value for name, value in options.items() if value is not None}
    lib = _functions()
    handle = c_void_p()
    lib.convert(os.fsencode(model), os.fsencode(output), json.dumps(given).encode(), byref(handle))
    try:
        report: dict[str, Any] = json.loads(lib.conversion_report(handle).decode())
    finally:
        lib.conversion_release(handle)
    return report


def _names(names: str | Iterable[str] | None) -> list[str] | None:
    if names is None:
        return None
    return [names] if isinstance(names, str) else list(names)


def _numbers(numbers: float | Sequence[float] | None) -> list[float] | None:
    if numbers is None:
        return None
    return [float(number) for number in (numbers if isinstance(numbers, Sequence) else [numbers])]
