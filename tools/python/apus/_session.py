"""Models: loading, describing, running."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import os
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._cancellation import Cancellation, Ending
from ._engine import Engine, Priority
from ._errors import MISSING_IN_SESSION, InvalidArgument, make_error, missing
from ._library import Buffer, extension, library, text, texts
from ._options import GraphOptimizationLevel, RunOptions, SessionOptions, get_available_providers
from ._ortvalues import IOBinding, OrtValue
from ._types import ELEMENT_TYPES, STRING, ElementType, ValueType, dtype, parse_type
from ._values import Handles, Held, hold, take


@dataclass(frozen=True)
class NodeArg:
    """An input or output of a model."""

    name: str
    #: As in "tensor(float)", "seq(tensor(int64))", "map(string,tensor(float))"; empty where the model does not tell.
    type: str
    #: One entry an axis: a number, a symbol or expression, or None where nothing is known. Empty, as in onnxruntime, if
    #: that holds for the number of axes too, or if it is no tensor.
    shape: list[int | str | None]
    #: The number of axes; None where it is not known.
    rank: int | None = field(default=None, compare=False)

    @property
    def value_type(self) -> ValueType | None:
        return parse_type(self.type)


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says of itself."""

    graph_name: str
    producer_name: str
    producer_version: str
    domain: str
    description: str
    version: int
    ir_version: int
    opsets: dict[str, int] = field(default_factory=dict)
    custom_metadata_map: dict[str, str] = field(default_factory=dict)

    @property
    def graph_description(self) -> str:
        return self.description


class Loadable:
    """What a session can be made of beside files."""

    def _load(self, options: int) -> int:
        """The handle of the model, which belongs to the caller."""
        raise NotImplementedError


class InferenceSession:
    """A model ready to run. Any number of threads may run it at once; they share its weights.

    >>> session = apus.InferenceSession("digits.onnx", threads=2)
    >>> (probabilities,) = session.run(None, {"input": images})
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes | Any,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        *,
        threads: int | None = None,
        engine: Engine | None = None,
        priority: Priority | int = Priority.NORMAL,
        optimize: bool = True,
        disabled_passes: Iterable[str] = (),
        dimensions: Mapping[str, int] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        extra_outputs: Iterable[str] = (),
        overridable_initializers: Iterable[str] = (),
        external_data_folder: str | os.PathLike[str] | None = None,
        maximum_run_memory: int | None = None,
        map_files: bool = False,
        precision: str = "f32",
        profiling: bool = False,
        disabled_optimizers: Iterable[str] | None = None,
        enable_fallback: bool = True,
    ) -> None:
        """Loads a model from a path, from the bytes of a file, or from an onnx.ModelProto.

        sess_options: onnxruntime's options; the parameters below say more, and go before them.
        providers, provider_options: for programs that were written for onnxruntime; there is only the CPU.
        threads: those that one run may use; None for the processors that this process may use.
        engine: whose threads and memory budget the session has; None for the engine that sessions of the process share.
        priority: how urgent the runs of this session are; two sessions on one file share its weights.
        optimize: whether the graph is rewritten to run faster; `disabled_passes` leaves single rewritings out.
        dimensions: sizes for symbolic dimensions by name; shapes: shapes for inputs by name.
        extra_outputs: intermediate values to return too.
        overridable_initializers: initializers that the graph also lists as inputs, which are then given to `run`.
        external_data_folder: where the weights beside a model from bytes lie. For a path it is the folder of the model.
        maximum_run_memory: the bytes that one run may hold at a time.
        map_files: maps the model's files instead of reading them into memory, which other processes then share; nobody
            may write to them or make them shorter while the model is loaded.
        precision: how exactly matrix products are computed: in "f32", or with weights in "bf16" (bfloat16) in half the
            memory; on machines with products of bfloat16 both operands are rounded to it.
        profiling: whether runs are timed node by node, for `end_profiling`.
        disabled_optimizers, enable_fallback: accepted and not looked at; they are about parts of onnxruntime.
        """
        lib = library()
        self._release = lib.model_release
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise InvalidArgument(f"sess_options is {type(sess_options).__name__}; expected apus.SessionOptions")
        self._options = SessionOptions() if sess_options is None else copy.copy(sess_options)
        _check_providers(providers, provider_options)
        if engine is not None and not isinstance(engine, Engine):
            raise InvalidArgument(f"engine is {type(engine).__name__}; expected apus.Engine")
        if threads is None and self._options.intra_op_num_threads:
            threads = self._options.intra_op_num_threads
        level = self._options.graph_optimization_level
        self._settings: dict[str, Any] = {
            "threads": threads,
            "engine": engine,
            "priority": priority,
            "optimize": optimize and level != GraphOptimizationLevel.ORT_DISABLE_ALL,
            "disabled_passes": tuple(disabled_passes),
            "dimensions": self._options.dimensions | dict(dimensions or {}),
            "shapes": dict(shapes or {}),
            "extra_outputs": tuple(extra_outputs),
            "overridable_initializers": tuple(overridable_initializers),
            "external_data_folder": external_data_folder,
            "maximum_run_memory": maximum_run_memory,
            "map_files": map_files,
            "precision": precision,
        }
        self._profiling = profiling or self._options.enable_profiling
        self._profiling_start = time.monotonic_ns()
        self._handle = _load(path_or_bytes, self._settings, self._profiling)
        self._inputs = _describe_all(lib.model_input_count, lib.model_input, self._handle)
        self._outputs = _describe_all(lib.model_output_count, lib.model_output, self._handle)
        self._overridable = _describe_all(lib.model_overridable_count, lib.model_overridable, self._handle)
        # What the model is loaded from again when initializers are given to `run`; bytes are kept for that alone.
        self._source = path_or_bytes if self._overridable else None
        self._types = {arg.name: arg.value_type for arg in self._inputs}
        self._overriding: dict[frozenset[str], InferenceSession] = {}
        self._runner = _make_runner(self)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._release(self._handle)

    def __getattr__(self, name: str) -> Any:
        # Reached for what is not there only.
        raise missing(name, MISSING_IN_SESSION, "'InferenceSession'")

    # What the model is

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in the order of the file, without initializers."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in the order of the file, then `extra_outputs`."""
        return list(self._outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The initializers that the file also lists as inputs: they may be given to `run`, and need not."""
        return list(self._overridable)

    def get_modelmeta(self) -> ModelMetadata:
        """What the file says of itself."""
        lib, model = library(), self._handle
        opsets = range(lib.model_opset_count(model))
        entries = range(lib.model_metadata_count(model))
        return ModelMetadata(
            graph_name=lib.model_graph_name(model).decode(),
            producer_name=lib.model_producer_name(model).decode(),
            producer_version=lib.model_producer_version(model).decode(),
            domain=lib.model_domain(model).decode(),
            description=lib.model_description(model).decode(),
            version=lib.model_version(model),
            ir_version=lib.model_ir_version(model),
            opsets={lib.model_opset_domain(model, i).decode(): lib.model_opset_version(model, i) for i in opsets},
            custom_metadata_map={
                lib.model_metadata_key(model, i).decode(): lib.model_metadata_value(model, i).decode() for i in entries
            },
        )

    @property
    def threads(self) -> int:
        """The threads that one run may use."""
        return int(library().model_thread_count(self._handle))

    def release_memory(self) -> None:
        """Frees the working memory that runs have left; the next run takes new memory."""
        library().model_release_memory(self._handle)

    # What onnxruntime's sessions have besides

    def get_session_options(self) -> SessionOptions:
        return self._options

    def get_providers(self) -> list[str]:
        return get_available_providers()

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {name: {} for name in self.get_providers()}

    def set_providers(
        self, providers: Sequence[Any] | None = None, provider_options: Sequence[dict[Any, Any]] | None = None
    ) -> None:
        _check_providers(providers, provider_options)

    def enable_fallback(self) -> None:
        """Accepted; there is only the CPU."""

    def disable_fallback(self) -> None:
        """Accepted; there is only the CPU."""

    # Profiling

    def end_profiling(self) -> str:
        """Writes the times of the runs since the last call as a Chrome trace, into a file of the working directory
        whose name begins with `SessionOptions.profile_file_prefix`; returns its name. Empty if the session does not
        profile."""
        if not self._profiling:
            return ""
        moment = time.strftime("%Y-%m-%d_%H-%M-%S")
        name = f"{self._options.profile_file_prefix}_{moment}.json"
        number = 1
        while os.path.exists(name):
            number += 1
            name = f"{self._options.profile_file_prefix}_{moment}_{number}.json"
        library().model_write_profile(self._handle, text(name))
        return name

    def get_profiling_start_time_ns(self) -> int:
        """When the session was made, on the clock of `time.monotonic_ns`."""
        return self._profiling_start

    # Running

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
        *,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> list[Any]:
        """The outputs named, or all with None or no name, in that order, for inputs by name.

        A tensor is an array (of objects that are str for strings), a sequence a list, a map a dictionary, an empty
        optional None. What is no array yet is made one of the declared type. `timeout` is in seconds; `cancellation`,
        and `terminate` of `run_options`, end the run when they are set.
        """
        if run_options is None and timeout is None and cancellation is None:
            return self._run(output_names, input_feed, 0)
        with Ending(run_options, timeout, cancellation) as flag:
            return self._run(output_names, input_feed, flag)

    def _run_held(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None,
        targets: Mapping[str, np.ndarray] | None = None,
        donated: Collection[str] = (),
    ) -> list[Any]:
        """`run` whose results are `Held` where they are tensors; those named in `targets` lie in these arrays, and what
        is `Held` of the inputs `donated` is given away."""
        if run_options is None:
            return self._run(output_names, input_feed, 0, hold, targets, donated)
        with Ending(run_options, None, None) as flag:
            return self._run(output_names, input_feed, flag, hold, targets, donated)

    def _run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        flag: int,
        receive: Callable[[int], Any] = take,
        targets: Mapping[str, np.ndarray] | None = None,
        donated: Collection[str] = (),
    ) -> list[Any]:
        if self._runner is not None and receive is take:
            results = self._runner.run(output_names, input_feed, flag)
            if results is not NotImplemented:
                return results  # type: ignore[no-any-return]
        if not isinstance(input_feed, Mapping):
            raise InvalidArgument(f"input_feed is {type(input_feed).__name__}; expected values by name, a dictionary")
        overridden = self._overridden(input_feed)
        if overridden is not None:
            return overridden._run(output_names, input_feed, flag, receive, targets, donated)
        if isinstance(output_names, (str, bytes)):
            raise InvalidArgument(f"output_names is {output_names!r}; expected a list of names, or None for all")
        wanted = list(output_names) if output_names else [arg.name for arg in self._outputs]
        for name in (*input_feed, *wanted):
            if not isinstance(name, str):
                raise InvalidArgument(f"{name!r} is {type(name).__name__}; names of inputs and outputs are str")
        given_names, wanted_names = texts(input_feed), texts(wanted)
        results = (ctypes.c_void_p * len(wanted))()
        with Handles() as handles:
            made = [handles.make(value, self._types.get(name), name) for name, value in input_feed.items()]
            inputs = (ctypes.c_void_p * len(made))(*made)
            given = (self._handle, given_names, inputs, len(made), wanted_names, len(wanted))
            if targets:
                library().model_run_into(*given, _buffers(wanted, targets), flag or None, results)
            elif donated:
                gifts = [value if name in donated else None for name, value in input_feed.items()]
                self._run_donating(given, gifts, handles, flag, results)
            else:
                library().model_run(*given, flag or None, results)
            # Inside the block, which keeps the inputs until the results are arrays of their own.
            return _take_all(results, receive)

    def _run_donating(self, given: Any, gifts: list[Any], handles: Handles, flag: int, results: Any) -> None:
        """The run that takes over the handles of those `gifts` that are `Held`, each for the input in its place."""
        model, names, inputs, count, *wanted = given
        donated = (ctypes.c_bool * count)()
        try:
            for index, gift in enumerate(gifts):
                donated[index] = isinstance(gift, Held) and gift.surrender(handles)
            library().model_run_donating(model, names, inputs, donated, count, *wanted, flag or None, results)
        finally:
            # NULL, once the call has taken them.
            for index, is_given in enumerate(donated):
                if is_given:
                    library().value_release(inputs[index])

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any = None,
        run_options: RunOptions | None = None,
    ) -> None:
        """Runs on a thread of its own, which calls `callback(results, user_data, error)` at the end; `error` is a text,
        empty if all went well. Inputs must not change until then."""

        def work() -> None:
            results: list[Any] = []
            text = ""
            try:
                results = self.run(output_names, input_feed, run_options)
            except Exception as error:  # whatever it is, the caller hears of it there only
                text = str(error) or type(error).__name__
            callback(results, user_data, text)

        threading.Thread(target=work, name="apus-run", daemon=True).start()

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
        *,
        donated: Collection[str] = (),
    ) -> list[OrtValue]:
        """`run` with values in boxes. A result that goes into the next run as it is, as the cache of a decoder does, is
        not copied: it grows where it lies.

        Inputs named in `donated` are given away: where the model can write a result over such a tensor, it does, so
        that state of fixed size costs no copy. The box is empty afterwards, also if the run fails. Only results of runs
        that nobody has looked at can be given away; other boxes stay as they are.
        """
        for name in donated:
            if name not in input_dict_ort_values:
                raise InvalidArgument(f"'{name}' is donated and no input of the run")
        feeds = {name: value._feed() for name, value in input_dict_ort_values.items()}
        try:
            results = self._run_held(output_names, feeds, run_options, donated=donated)
        finally:
            for name in donated:
                input_dict_ort_values[name]._forget_gift()
        return [OrtValue(value) for value in results]

    def io_binding(self) -> IOBinding:
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Runs on what is bound; the results are in the binding afterwards."""
        iobinding._run(run_options)

    # Names

    def _require_input(self, name: str) -> None:
        known = [arg.name for arg in self._inputs + self._overridable]
        if name not in known:
            inputs = ", ".join(arg.name for arg in self._inputs)
            raise InvalidArgument(f"there is no input '{name}'. Inputs are: {inputs}")

    def _require_output(self, name: str) -> None:
        known = [arg.name for arg in self._outputs]
        if name not in known:
            raise InvalidArgument(f"there is no output '{name}'. Outputs are: {', '.join(known)}")

    def _overridden(self, feeds: Mapping[str, Any]) -> InferenceSession | None:
        """The session whose initializers named in `feeds` are inputs, made at its first use; None if there are none."""
        names = frozenset(arg.name for arg in self._overridable if arg.name in feeds)
        if not names:
            return None
        if names not in self._overriding:
            settings = dict(self._settings)
            settings["overridable_initializers"] += tuple(sorted(names))
            self._overriding[names] = InferenceSession(self._source, profiling=self._profiling, **settings)
        return self._overriding[names]


def _check_providers(providers: Sequence[Any] | None, options: Sequence[dict[Any, Any]] | None) -> None:
    """Says so if another provider than the CPU is asked for, which is not there."""
    if options is not None and len(options) != len(providers or ()):
        raise InvalidArgument(f"{len(options)} provider_options for {len(providers or ())} providers")
    available = get_available_providers()
    for provider in providers or ():
        name = provider[0] if isinstance(provider, tuple) and provider else provider
        if not isinstance(name, str):
            raise InvalidArgument(f"a provider is {provider!r}; expected a name or (name, options)")
        if name not in available:
            warnings.warn(f"there is no provider '{name}'; {available[0]} runs the model", stacklevel=3)


def _make_runner(session: InferenceSession) -> Any:
    """The extension's runner of the model; None without the extension."""
    module = extension()
    if module is None:
        return None
    inputs = tuple(arg.name for arg in session._inputs)
    outputs = tuple(arg.name for arg in session._outputs)
    named = {arg.value_type.element for arg in session._inputs + session._outputs if arg.value_type}
    return module.Runner(session._handle, inputs, outputs, _plain_dtypes(named), np.ndarray, make_error, take)


def _plain_dtypes(named: Collection[ElementType | None]) -> dict[int, np.dtype]:
    """The dtypes by element type, where an element of ONNX is one of NumPy and the module of its dtype is there.

    Of the types that NumPy lacks only those that are `named`: their module takes as long to import as a model to load.
    """
    found = {}
    for element in ELEMENT_TYPES:
        if element.number == STRING or element.bits < 8 or (not element.is_of_numpy and element not in named):
            continue
        try:
            found[element.number] = dtype(element)
        except ImportError:  # ml_dtypes is missing, or too old
            break
    return found


def _buffers(names: Sequence[str], targets: Mapping[str, np.ndarray]) -> Any:
    """An apus_buffer for each output, empty for those that have no array."""
    buffers = (Buffer * len(names))()
    for index, name in enumerate(names):
        if name in targets:
            buffers[index] = Buffer(targets[name].ctypes.data, targets[name].nbytes)
    return buffers


def _take_all(results: Any, receive: Callable[[int], Any]) -> list[Any]:
    """What `receive` makes of all handles; none of them is lost if one cannot be taken."""
    outputs = []
    try:
        for index, handle in enumerate(results):
            results[index] = None
            outputs.append(None if handle is None else receive(handle))
    finally:
        for handle in results:
            library().value_release(handle)
    return outputs


def compile(
    model: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    threads: int | None = None,
    optimize: bool = True,
    disabled_passes: Iterable[str] = (),
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    extra_outputs: Iterable[str] = (),
) -> None:
    """Writes the model in a file as a compiled one, which loads in milliseconds: the graph after all passes and the
    weights in the forms that kernels read.

    `InferenceSession` takes the file `target` like any other, on machines with the same instructions and in this
    version of the library. It must stay as it is while a session has it; to replace it, write a new one, as this does.
    The parameters are those of `InferenceSession`; of them, a session on a compiled model takes `dimensions` and
    `shapes` still.
    """
    settings = {
        "threads": threads,
        "optimize": optimize,
        "disabled_passes": tuple(disabled_passes),
        "dimensions": dict(dimensions or {}),
        "shapes": dict(shapes or {}),
        "extra_outputs": tuple(extra_outputs),
        "overridable_initializers": (),
        "maximum_run_memory": None,
        "map_files": False,
    }
    with _options(settings) as options:
        library().model_compile_file(text(model), options, text(target))


def _load(model: Any, settings: Mapping[str, Any], profiling: bool) -> int:
    """The handle of a model; `settings` are the parameters of `InferenceSession` by name."""
    with _options(settings) as options:
        library().options_set_profiling(options, profiling)
        return _read(model, settings["external_data_folder"], options)


@contextlib.contextmanager
def _options(settings: Mapping[str, Any]) -> Iterator[int]:
    """The handle of the options that `settings`, the parameters of `InferenceSession` by name, ask for."""
    lib = library()
    options = lib.options_create()
    try:
        if settings["threads"] is not None:
            lib.options_set_threads(options, settings["threads"])
        # A model that is compiled and not run has neither.
        if settings.get("engine") is not None:
            lib.options_set_engine(options, settings["engine"]._handle)
        lib.options_set_priority(options, settings.get("priority", Priority.NORMAL))
        lib.options_set_optimize(options, settings["optimize"])
        for name in settings["disabled_passes"]:
            lib.options_disable_pass(options, text(name))
        for name, size in settings["dimensions"].items():
            lib.options_set_dimension(options, text(name), size)
        for name, shape in settings["shapes"].items():
            lib.options_set_shape(options, text(name), (ctypes.c_int64 * len(shape))(*shape), len(shape))
        for name in settings["extra_outputs"]:
            lib.options_add_output(options, text(name))
        for name in settings["overridable_initializers"]:
            lib.options_override_initializer(options, text(name))
        if settings["maximum_run_memory"] is not None:
            lib.options_set_maximum_run_memory(options, settings["maximum_run_memory"])
        lib.options_set_map_files(options, settings["map_files"])
        lib.options_set_precision(options, text(settings.get("precision", "f32")))
        yield options
    finally:
        lib.options_release(options)


def _read(model: Any, folder: str | os.PathLike[str] | None, options: int) -> int:
    result = ctypes.c_void_p()
    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    if isinstance(model, (bytes, bytearray, memoryview)):
        content = bytes(model)
        place = None if folder is None else text(folder)
        library().model_load_bytes(content, len(content), place, options, ctypes.byref(result))
    elif isinstance(model, Loadable):
        return model._load(options)
    elif isinstance(model, (str, os.PathLike)):
        if folder is not None:
            raise InvalidArgument("external_data_folder is for models from bytes; with a path it is the model's folder")
        library().model_load_file(text(model), options, ctypes.byref(result))
    else:
        raise TypeError(f"the model is {type(model).__name__}; expected a path, bytes or an onnx.ModelProto")
    assert result.value is not None
    return result.value


def _describe_all(count: Callable[[int], int], info: Callable[[int, int], int], model: int) -> list[NodeArg]:
    return [_describe(info(model, index)) for index in range(count(model))]


def _describe(info: int) -> NodeArg:
    lib = library()
    rank = lib.value_info_rank(info)
    shape: list[int | str | None] = []
    for axis in range(rank):
        size, symbol = lib.value_info_dimension(info, axis), lib.value_info_symbol(info, axis)
        shape.append(size if size >= 0 else symbol.decode() if symbol else None)
    name, kind = lib.value_info_name(info).decode(), lib.value_info_type(info).decode()
    return NodeArg(name, kind, shape, rank if rank >= 0 else None)
