"""Models made smaller: integers, weights of few bits, 16 bits, pruned, clustered. Imported when it is first used."""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_double, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ._errors import Error, InvalidArgument, NoSuchFile
from ._library import Library, library, text
from ._samples import Calibration, Samples
from ._session import InferenceSession, Loadable, NodeArg
from ._session import _describe_all as describe_all
from ._session import _options as open_options
from ._values import Handles

_NEXT_SAMPLE = CFUNCTYPE(c_bool, c_void_p, c_void_p)
_RESTART = CFUNCTYPE(c_bool, c_void_p)
_MEASURE = CFUNCTYPE(c_bool, c_void_p, c_void_p, POINTER(c_double))
_PROGRESS = CFUNCTYPE(c_bool, c_void_p, c_char_p, c_int64, c_int64)
_NO_CALL = 0


class _Calls(ctypes.Structure):
    """An apus_quantization_calls."""

    _fields_ = (
        ("context", c_void_p),
        ("next_sample", _NEXT_SAMPLE),
        ("restart_samples", _RESTART),
        ("sample_count", c_int64),
        ("measure", _MEASURE),
        ("progress", _PROGRESS),
    )


_HANDLE = POINTER(c_void_p)
_SLOW: dict[str, tuple[Any, list[Any]]] = {
    "source_read_file": ("error", [c_char_p, c_void_p, _HANDLE]),
    "source_read_bytes": ("error", [c_char_p, c_size_t, c_char_p, c_void_p, _HANDLE]),
    "source_quantize": ("error", [c_void_p, c_char_p, POINTER(_Calls), _HANDLE]),
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
def _functions() -> Library:
    """The library, with the functions of this module."""
    lib = library()
    lib.declare(_SLOW, _QUICK)
    return lib


class CompressedModel(Loadable):
    """A smaller model, and the report of what it costs.

    `report` is what the command prints with `--json`, as a dictionary; `outputs`, `nodes`, `weights` and `kept` are its
    lists of that name, empty where it has none. `save` writes the model, `to_bytes` gives it as a file in memory, and
    `session` runs it.
    """

    def __init__(self, handle: int) -> None:
        lib = _functions()
        self._release = lib.compressed_release
        self._handle = handle
        self.report: dict[str, Any] = json.loads(lib.compressed_report(handle).decode())

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
        """The nodes on integers: `name`, `op`, types, range, `sqnr`, `cosine`, `saturation`, `share_of_loss`."""
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
        page = _functions().compressed_page(self._handle)
        if page is None:
            raise InvalidArgument("only what was quantized to integers has a report as a page")
        target = Path(path)
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
        _functions().compressed_save(self._handle, text(path), opset or 0)

    def to_bytes(self) -> bytes:
        """The model as the bytes of an ONNX file."""
        data, count = c_void_p(), c_size_t()
        _functions().compressed_bytes(self._handle, ctypes.byref(data), ctypes.byref(count))
        return ctypes.string_at(data, count.value)

    def session(self, **options: Any) -> InferenceSession:
        """The model, ready to run; the options are those of `InferenceSession`."""
        return InferenceSession(self, **options)

    def _load(self, options: int) -> int:
        result = c_void_p()
        _functions().compressed_load(self._handle, options, ctypes.byref(result))
        assert result.value is not None
        return result.value


class _Given(Loadable):
    """A model that the library hands out to be measured."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def _load(self, options: int) -> int:
        return self._handle


class _Source:
    """A model that was read to be made smaller."""

    def __init__(self, model: Any, folder: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        lib = _functions()
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
        function(self.handle, _json(options), *more, ctypes.byref(result))
        assert result.value is not None
        return CompressedModel(result.value)


class _Interruptions:
    """Keeps an interruption by the keyboard from being raised where it would be lost: before the first line of a
    function that the library calls. It is raised inside of the next one, or when the library has returned."""

    def __init__(self) -> None:
        self.is_safe = False
        self._is_pending = False
        self._handler: Any = None

    def __enter__(self) -> _Interruptions:
        # Only the main thread may change handlers, and only there they run.
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._handler = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._handler)
        self.is_safe = True
        self.deliver()

    def _handle(self, number: int, frame: Any) -> None:
        self._is_pending = True
        if self.is_safe:
            self.deliver()

    def deliver(self) -> None:
        """Does what the handler of the program does, if there was an interruption."""
        if self._is_pending:
            self._is_pending = False
            self._handler(signal.SIGINT, None)


class _Conversation:
    """What the library asks during a quantization. Exceptions of what is asked end it, and are kept to be raised
    again."""

    def __init__(
        self,
        source: _Source,
        samples: Samples | None,
        evaluate: Callable[[InferenceSession], float] | None,
        progress: Callable[[str, int, int | None], object] | None,
    ) -> None:
        self._types = {arg.name: arg.value_type for arg in source.inputs}
        self._samples, self._evaluate, self._progress = samples, evaluate, progress
        self._error: BaseException | None = None
        self._interruptions = _Interruptions()
        has_samples = samples is not None
        self._calls = _Calls(
            None,
            self._guarded(_NEXT_SAMPLE, self._next_sample) if has_samples else _NEXT_SAMPLE(_NO_CALL),
            self._guarded(_RESTART, self._restart) if has_samples else _RESTART(_NO_CALL),
            samples.count if samples is not None else -1,
            self._guarded(_MEASURE, self._measure) if evaluate is not None else _MEASURE(_NO_CALL),
            # Without a function of the caller too: here an interruption by the keyboard comes through.
            self._guarded(_PROGRESS, self._tell),
        )

    def _guarded(self, kind: Any, function: Callable[..., None]) -> Any:
        def call(context: Any, *arguments: Any) -> bool:
            try:
                self._interruptions.is_safe = True
                self._interruptions.deliver()
                function(*arguments)
            except BaseException as error:  # raised again by `hold`
                self._error = self._error or error
                return False
            finally:
                self._interruptions.is_safe = False
            return True

        return kind(call)

    def _restart(self) -> None:
        assert self._samples is not None
        self._samples.restart()

    def _next_sample(self, sample: int) -> None:
        assert self._samples is not None
        values = self._samples.next()
        with Handles() as handles:
            for name, value in (values or {}).items():
                if not isinstance(name, str):
                    raise InvalidArgument(f"a sample has a value for {name!r}; expected the name of an input")
                _functions().sample_set(sample, text(name), handles.make(value, self._types.get(name), name))

    def _measure(self, model: int, quality: Any) -> None:
        assert self._evaluate is not None
        found = self._evaluate(InferenceSession(_Given(model)))
        try:
            quality[0] = float(found)
        except (TypeError, ValueError):
            found = math.nan
        if math.isnan(quality[0]) or found is math.nan:
            raise InvalidArgument(f"evaluate returned {found!r}; expected a number, more being better")

    def _tell(self, stage: bytes, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(stage.decode(), done, None if total < 0 else total)

    def hold(self, work: Callable[[_Calls], CompressedModel]) -> CompressedModel:
        """What `work` makes with the functions; what one of them has raised, if one has."""
        try:
            with self._interruptions:
                return work(self._calls)
        except Error as error:
            failure = error
        finally:
            # The functions refer to this object, and this object to them.
            del self._calls
        raise failure if self._error is None else self._error


def _json(options: Mapping[str, Any]) -> bytes:
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


def _names(patterns: str | Iterable[str] | None) -> list[str] | None:
    if patterns is None:
        return None
    return [patterns] if isinstance(patterns, str) else list(patterns)


@contextmanager
def _place(output: str | os.PathLike[str] | None) -> Iterator[None]:
    """Says at once what would be said after the work: that the folder of the output is missing."""
    if output is not None:
        folder = Path(output).absolute().parent
        if not folder.is_dir():
            raise NoSuchFile(f"{os.fspath(output)} cannot be written: there is no folder {folder}")
    yield


def _settings(
    threads: int | None,
    dimensions: Mapping[str, int] | None,
    shapes: Mapping[str, Sequence[int]] | None,
    maximum_run_memory: int | None = None,
    map_files: bool = False,
) -> dict[str, Any]:
    return {
        "threads": threads,
        "optimize": True,
        "disabled_passes": (),
        "dimensions": dict(dimensions or {}),
        "shapes": dict(shapes or {}),
        "extra_outputs": (),
        "overridable_initializers": (),
        "maximum_run_memory": maximum_run_memory,
        "map_files": map_files,
    }


def quantize(
    model: str | os.PathLike[str] | bytes | Any,
    output: str | os.PathLike[str] | None = None,
    *,
    calibrate: Calibration | None = None,
    static: bool | None = None,
    dynamic: bool | None = None,
    weights: str | None = None,
    float16: bool | None = None,
    bfloat16: bool | None = None,
    activations: str | None = None,
    symmetric: bool | None = None,
    asymmetric_weights: bool | None = None,
    per_tensor: bool | None = None,
    range: str | None = None,
    percentile: float | None = None,
    target: str | None = None,
    format: str | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    equalize: bool | None = None,
    correct_bias: bool | None = None,
    smooth: float | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    block: int | Literal["channel"] | None = None,
    method: str | None = None,
    weight_format: str | None = None,
    zero_points: bool | None = None,
    weight_type: Mapping[str, str] | None = None,
    tables: bool | None = None,
    minimum_elements: int | None = None,
    damping: float | None = None,
    act_order: bool | None = None,
    sweeps: int | None = None,
    accuracy_level: int | None = None,
    keep_io: bool | None = None,
    keep_sensitive: bool | None = None,
    keep: str | Iterable[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    save_calibration: str | os.PathLike[str] | None = None,
    tensorrt_cache: str | os.PathLike[str] | None = None,
    target_sqnr: float | None = None,
    target_accuracy: float | None = None,
    evaluate: Callable[[InferenceSession], float] | None = None,
    rank: bool | None = None,
    measure: int | None = None,
    opset: int | None = None,
    external_data_folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    maximum_run_memory: int | None = None,
    progress: Callable[[str, int, int | None], object] | None = None,
) -> CompressedModel:
    """Makes a model smaller and faster, and says what that costs. The options are those of `apus quantize`, by the same
    names; docs/quantization.md explains them, and what is not given has the command's default.

    >>> made = apus.quantize("resnet50.onnx", "resnet50-int8.onnx", calibrate=({"input": image} for image in images))
    >>> made = apus.quantize("bert.onnx", "bert-int8.onnx", dynamic=True)
    >>> made = apus.quantize("llama.onnx", "llama-int4.onnx", weights="int4", block=32, method="gptq", calibrate=texts)
    >>> made = apus.quantize("unet.onnx", "unet-f16.onnx", float16=True)
    >>> print(made.outputs[0]["sqnr"], made.session().run(None, feeds))

    model: a path, the bytes of a file, or an onnx.ModelProto. With `output` the result is written there, else it is in
    the object returned. If an error is raised, nothing was written but what `save_calibration` names.

    calibrate: samples, one at a time, each a dictionary of arrays by input, or the array alone for a single input: an
        iterable, an iterator, or a function that returns an iterator; a dictionary of arrays with many samples
        along their first axis, or such an array; the path of an .npz file, read piece by piece. Memory does not grow
        with their number, but for gptq and awq. An iterator serves once, which is enough without `smooth`.
    static (with samples the default), dynamic: activations and weights as integers. Then `activations`, `symmetric`,
        `weights`, `asymmetric_weights`, `per_tensor`, `range`, `percentile`, `target`, `format`, `overrides`,
        `equalize`, `correct_bias`, `smooth`, `include`, `exclude`. overrides: {"conv1": {"low": 0, "high": 6}}.
    weights: "int8", "int4", "int2" … alone: weights in few bits. Then `block`, `method`, `weight_format`,
        `zero_points`, `weight_type`, `tables`, `minimum_elements`, `damping`, `act_order`, `sweeps`, `accuracy_level`,
        `include`, `exclude`.
    float16, bfloat16: 16 bits. Then `keep_io`, `keep_sensitive`, `keep`.
    calibration, save_calibration: files of what a calibration has seen; tensorrt_cache: a file of ranges for TensorRT.
    target_sqnr: decibels that every output must reach. target_accuracy: what `evaluate` must return, a function of an
        `InferenceSession` whose result is better the larger it is. The worst nodes stay in float until it holds.
    rank: whether the report says what each node costs alone; measure: the samples on which losses are measured.
    opset: the operator set to write. external_data_folder, threads, dimensions, shapes, maximum_run_memory: as for
        `InferenceSession`.
    progress: is called with what is being done, how much of it, and of how much.

    Exceptions of `calibrate`, `evaluate` and `progress` come through as they are.
    """
    if (evaluate is None) != (target_accuracy is None):
        raise InvalidArgument("target_accuracy and evaluate, which measures it, are given together")
    options = {
        "static": static,
        "dynamic": dynamic,
        "weights": weights,
        "float16": float16,
        "bfloat16": bfloat16,
        "activations": activations,
        "symmetric": symmetric,
        "asymmetric_weights": asymmetric_weights,
        "per_tensor": per_tensor,
        "range": range,
        "percentile": percentile,
        "target": target,
        "format": format,
        "overrides": overrides,
        "equalize": equalize,
        "correct_bias": correct_bias,
        "smooth": smooth,
        "include": _names(include),
        "exclude": _names(exclude),
        "block": 0 if block == "channel" else block,
        "method": method,
        "weight_format": weight_format,
        "zero_points": zero_points,
        "weight_type": None if weight_type is None else [list(pair) for pair in weight_type.items()],
        "tables": tables,
        "minimum_elements": minimum_elements,
        "damping": damping,
        "act_order": act_order,
        "sweeps": sweeps,
        "accuracy_level": accuracy_level,
        "keep_io": keep_io,
        "keep_sensitive": keep_sensitive,
        "keep": _names(keep),
        "calibration": calibration,
        "save_calibration": save_calibration,
        "tensorrt_cache": tensorrt_cache,
        "target_sqnr": target_sqnr,
        "target_accuracy": target_accuracy,
        "rank": rank,
        "measure": measure,
    }
    # Weights of models of 16 bits are read when the result is written.
    halves = bool(float16 or bfloat16)
    settings = _settings(threads, dimensions, shapes, maximum_run_memory, map_files=halves)
    with _place(output):
        source = _Source(model, external_data_folder, settings)
        # What measures looks at one sample more, to see that it has enough.
        kept = (_MEASURED if measure is None else max(int(measure), 1)) + 1
        samples = None if calibrate is None else Samples(calibrate, source.inputs, kept)
        conversation = _Conversation(source, samples, evaluate, progress)
        made = conversation.hold(lambda calls: source.make(_functions().source_quantize, options, ctypes.byref(calls)))
        return _saved(made, output, opset)


# The default of `measure`.
_MEASURED = 8


def _saved(made: CompressedModel, output: str | os.PathLike[str] | None, opset: int | None) -> CompressedModel:
    if output is not None:
        made.save(output, opset)
    return made


def prune(
    model: str | os.PathLike[str] | bytes | Any,
    output: str | os.PathLike[str] | None = None,
    *,
    magnitude: float | None = None,
    pattern: str | None = None,
    structured: float | None = None,
    target_params: float | None = None,
    target_macs: float | None = None,
    all_layers: bool | None = None,
    norm: str | None = None,
    importance: Mapping[str, Any] | None = None,
    fractions: Mapping[str, float] | None = None,
    multiple: int | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    opset: int | None = None,
    external_data_folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> CompressedModel:
    """Makes the smallest elements of weights 0, or takes whole channels away. The options are those of `apus prune`,
    which docs/compression.md explains; `all_layers` is its `--global`.

    >>> made = apus.prune("resnet50.onnx", "smaller.onnx", structured=0.3)
    >>> made.report["comparison"]["after"]["multiply_adds"]

    magnitude: the share of the elements that become 0. pattern: "2:4". structured: the share of the channels that go.
    target_params, target_macs: the share of the model that may stay, which chooses the fraction.
    importance: by weight or node a number for each output channel, in the place of `norm`. fractions: by pattern.
    """
    options = {
        "magnitude": magnitude,
        "pattern": pattern,
        "structured": structured,
        "target_params": target_params,
        "target_macs": target_macs,
        "global": all_layers,
        "norm": norm,
        "importance": importance,
        "fractions": fractions,
        "multiple": multiple,
        "include": _names(include),
        "exclude": _names(exclude),
    }
    with _place(output):
        source = _Source(model, external_data_folder, _settings(threads, dimensions, shapes))
        return _saved(source.make(_functions().source_prune, options), output, opset)


def cluster(
    model: str | os.PathLike[str] | bytes | Any,
    output: str | os.PathLike[str] | None = None,
    *,
    codebook: int,
    by_magnitude: bool | None = None,
    keep_zeros: bool | None = None,
    indices: bool | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    opset: int | None = None,
    external_data_folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> CompressedModel:
    """Lets the elements of each weight share `codebook` values, so that the file packs well. The options are those of
    `apus cluster`, which docs/compression.md explains.

    >>> made = apus.cluster("resnet50.onnx", "clustered.onnx", codebook=32)
    >>> made.report["huffman_bytes"]
    """
    options = {
        "codebook": codebook,
        "by_magnitude": by_magnitude,
        "keep_zeros": keep_zeros,
        "indices": indices,
        "include": _names(include),
        "exclude": _names(exclude),
    }
    with _place(output):
        source = _Source(model, external_data_folder, _settings(threads, dimensions, shapes))
        return _saved(source.make(_functions().source_cluster, options), output, opset)


def sparsity(
    model: str | os.PathLike[str] | bytes | Any,
    *,
    external_data_folder: str | os.PathLike[str] | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Where the zeros of a model's weights lie: in all, by channel, and in the pattern 2:4.

    >>> apus.sparsity("pruned.onnx")["weights"][0]["zeros"]
    """
    source = _Source(model, external_data_folder, _settings(None, dimensions, shapes))
    found = c_char_p()
    _functions().source_sparsity(source.handle, ctypes.byref(found))
    assert found.value is not None
    report: dict[str, Any] = json.loads(found.value.decode())["sparsity"]
    return report
