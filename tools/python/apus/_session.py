"""Models: loading, describing, running."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._errors import InputError
from ._library import library
from ._types import ValueType, parse_type
from ._values import Handles, take


@dataclass(frozen=True)
class NodeArg:
    """An input or output of a model."""

    name: str
    #: As in "tensor(float)", "seq(tensor(int64))", "map(string,tensor(float))"; empty where the model does not tell.
    type: str
    #: One entry an axis: a number, a symbol or expression, or None where nothing is known. None if that holds for the
    #: number of axes too, or if it is no tensor.
    shape: list[int | str | None] | None

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


class Cancellation:
    """A wish to end runs early: set by `cancel`, from any thread, or by itself so many seconds after it was made."""

    def __init__(self, seconds: float | None = None) -> None:
        self._release = library().cancellation_release
        if seconds is not None and not seconds > 0:
            raise InputError(f"seconds is {seconds}; expected more than 0")
        self._handle: int = library().cancellation_create(seconds or 0.0)

    def cancel(self) -> None:
        """Ends the runs that were started with it, and those that will be."""
        library().cancellation_cancel(self._handle)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._release(self._handle)


class InferenceSession:
    """A model ready to run. Any number of threads may run it at once; they share its weights.

    >>> session = apus.InferenceSession("digits.onnx", threads=2)
    >>> (probabilities,) = session.run(None, {"input": images})
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | Any,
        *,
        threads: int | None = None,
        optimize: bool = True,
        disabled_passes: Iterable[str] = (),
        dimensions: Mapping[str, int] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        extra_outputs: Iterable[str] = (),
        overridable_initializers: Iterable[str] = (),
        external_data_folder: str | os.PathLike[str] | None = None,
        maximum_run_memory: int | None = None,
        providers: Sequence[Any] | None = None,
    ) -> None:
        """Loads a model from a path, from the bytes of a file, or from an onnx.ModelProto.

        threads: those that one run may use; None for the processors that this process may use.
        optimize: whether the graph is rewritten to run faster; `disabled_passes` leaves single rewritings out.
        dimensions: sizes for symbolic dimensions by name; shapes: shapes for inputs by name.
        extra_outputs: intermediate values to return too.
        overridable_initializers: initializers that the graph also lists as inputs, which are then given to `run`.
        external_data_folder: where the weights beside a model from bytes lie. For a path it is the folder of the model.
        maximum_run_memory: the bytes that one run may hold at a time.
        providers: accepted and not looked at, for programs that were written for onnxruntime; there is only the CPU.
        """
        lib = library()
        self._release = lib.model_release
        options = lib.options_create()
        try:
            if threads is not None:
                lib.options_set_threads(options, threads)
            lib.options_set_optimize(options, optimize)
            for name in disabled_passes:
                lib.options_disable_pass(options, name.encode())
            for name, size in (dimensions or {}).items():
                lib.options_set_dimension(options, name.encode(), size)
            for name, shape in (shapes or {}).items():
                lib.options_set_shape(options, name.encode(), (ctypes.c_int64 * len(shape))(*shape), len(shape))
            for name in extra_outputs:
                lib.options_add_output(options, name.encode())
            for name in overridable_initializers:
                lib.options_override_initializer(options, name.encode())
            if maximum_run_memory is not None:
                lib.options_set_maximum_run_memory(options, maximum_run_memory)
            self._handle = _load(model, external_data_folder, options)
        finally:
            lib.options_release(options)
        inputs, outputs = lib.model_input_count(self._handle), lib.model_output_count(self._handle)
        self._inputs = [_describe(lib.model_input(self._handle, index)) for index in range(inputs)]
        self._outputs = [_describe(lib.model_output(self._handle, index)) for index in range(outputs)]
        self._types = {arg.name: arg.value_type for arg in self._inputs}

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._release(self._handle)

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in the order of the file, without initializers."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in the order of the file, then `extra_outputs`."""
        return list(self._outputs)

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

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

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
        *,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> list[Any]:
        """The outputs named, or all with None, in that order, for inputs by name.

        A tensor is an array (of objects that are str for strings), a sequence a list, a map a dictionary, an empty
        optional None. What is no array yet is made one of the declared type. `timeout` is in seconds, `cancellation`
        ends the run when it is set; one of both may be given. `run_options` is there for programs that pass None.
        """
        if run_options is not None:
            raise InputError("run_options is not supported; see the parameters timeout and cancellation")
        if timeout is not None:
            if cancellation is not None:
                raise InputError("timeout and cancellation are both given; Cancellation(seconds) is both in one")
            cancellation = Cancellation(timeout)
        wanted = [arg.name for arg in self._outputs] if output_names is None else list(output_names)
        names = (ctypes.c_char_p * len(input_feed))(*(name.encode() for name in input_feed))
        wanted_names = (ctypes.c_char_p * len(wanted))(*(name.encode() for name in wanted))
        results = (ctypes.c_void_p * len(wanted))()
        with Handles() as handles:
            made = [handles.make(value, self._types.get(name), name) for name, value in input_feed.items()]
            inputs = (ctypes.c_void_p * len(made))(*made)
            flag = cancellation._handle if cancellation else None
            library().model_run(self._handle, names, inputs, len(made), wanted_names, len(wanted), flag, results)
            # Inside the block: an output may lie in the memory of an input until it is taken.
            return _take_all(results)


def _take_all(results: Any) -> list[Any]:
    """The values of all handles; none of them is lost if one cannot be taken."""
    outputs = []
    try:
        for index, handle in enumerate(results):
            results[index] = None
            outputs.append(None if handle is None else take(handle))
    finally:
        for handle in results:
            library().value_release(handle)
    return outputs


def _load(model: Any, folder: str | os.PathLike[str] | None, options: int) -> int:
    result = ctypes.c_void_p()
    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    if isinstance(model, (bytes, bytearray, memoryview)):
        content = bytes(model)
        place = None if folder is None else os.fsencode(folder)
        library().model_load_bytes(content, len(content), place, options, ctypes.byref(result))
    else:
        if folder is not None:
            raise InputError("external_data_folder is for models from bytes; with a path it is the folder of the model")
        library().model_load_file(os.fsencode(model), options, ctypes.byref(result))
    assert result.value is not None
    return result.value


def _describe(info: int) -> NodeArg:
    lib = library()
    rank = lib.value_info_rank(info)
    shape: list[int | str | None] | None = None
    if rank >= 0:
        shape = []
        for axis in range(rank):
            size, symbol = lib.value_info_dimension(info, axis), lib.value_info_symbol(info, axis)
            shape.append(size if size >= 0 else symbol.decode() if symbol else None)
    return NodeArg(lib.value_info_name(info).decode(), lib.value_info_type(info).decode(), shape)
