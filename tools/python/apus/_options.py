"""Options of sessions and of runs under onnxruntime's names, and what stands for them here."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Generic, TypeVar, overload

from ._errors import InputError, InvalidArgument, NotImplemented

T = TypeVar("T")


class GraphOptimizationLevel(IntEnum):
    """How far the graph is rewritten: here ORT_DISABLE_ALL rewrites nothing, and every other level all."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(IntEnum):
    """Makes no difference here: nodes that are independent run side by side where that is faster."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(IntEnum):
    """Makes no difference here."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class Option(Generic[T]):
    """An attribute that takes values of one type, and numbers from `least` on."""

    def __init__(self, default: T, least: int | None = None) -> None:
        self.default = default
        self.least = least

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, holder: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, holder: Any, owner: type) -> T: ...
    def __get__(self, holder: Any, owner: type) -> Any:
        return self if holder is None else holder._values.get(self.name, self.default)

    def __set__(self, holder: Any, value: T) -> None:
        kind = type(self.default)
        convert: Callable[[Any], Any] = kind
        try:
            # Numbers that are whole, such as NumPy's, pass for int; 0 and 1 for bool; texts only for str.
            fits = isinstance(value, str) if kind is str else convert(value) == value and not isinstance(value, str)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise TypeError(f"{self.name} is {value!r}; expected {kind.__name__}")
        made: Any = convert(value)
        if self.least is not None and made < self.least:
            raise InputError(f"{self.name} is {value!r}; expected {self.least} or more")
        holder._values[self.name] = made


class SessionOptions:
    """onnxruntime's options of a session. All its names are there; those without a meaning here change nothing, calls
    that ask for what Apus does not do raise `NotImplemented`, and names that onnxruntime does not have raise
    AttributeError.

    What counts: `intra_op_num_threads` (0: every processor that the process may use), `graph_optimization_level`,
    `add_free_dimension_override_by_name`, `enable_profiling` and `profile_file_prefix`.
    """

    __slots__ = ("_entries", "_values", "dimensions")

    enable_cpu_mem_arena = Option(True)
    enable_mem_pattern = Option(True)
    enable_mem_reuse = Option(True)
    enable_profiling = Option(False)
    execution_mode = Option(ExecutionMode.ORT_SEQUENTIAL)
    execution_order = Option(ExecutionOrder.DEFAULT)
    graph_optimization_level = Option(GraphOptimizationLevel.ORT_ENABLE_ALL)
    inter_op_num_threads = Option(0, least=0)
    intra_op_num_threads = Option(0, least=0)
    log_severity_level = Option(-1, least=-1)
    log_verbosity_level = Option(0, least=0)
    logid = Option("")
    profile_file_prefix = Option("onnxruntime_profile_")
    use_deterministic_compute = Option(False)
    use_per_session_threads = Option(True)

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._entries: dict[str, str] = {}
        #: Sizes of symbolic dimensions by name.
        self.dimensions: dict[str, int] = {}

    @property
    def optimized_model_filepath(self) -> str:
        return ""

    @optimized_model_filepath.setter
    def optimized_model_filepath(self, path: str) -> None:
        if path:
            raise NotImplemented(
                "optimized_model_filepath is not supported; `apus optimize MODEL --output FILE` saves what it names"
            )

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Gives the symbolic dimension `name` a size."""
        if int(size) < 0:
            raise InputError(f"the size of dimension '{name}' is {size}; expected 0 or more")
        self.dimensions[name] = int(size)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Kept for `get_session_config_entry`; no entry changes anything here."""
        self._entries[key] = value

    def get_session_config_entry(self, key: str) -> str:
        if key not in self._entries:
            raise InvalidArgument(f"there is no entry '{key}' in the session's configuration")
        return self._entries[key]

    def add_provider(self, name: str, options: dict[str, str]) -> None:
        """Accepted; there is only the CPU."""

    def has_providers(self) -> bool:
        return False

    def __copy__(self) -> SessionOptions:
        copy = SessionOptions()
        copy._values.update(self._values)
        copy._entries.update(self._entries)
        copy.dimensions.update(self.dimensions)
        return copy

    def __deepcopy__(self, memo: object) -> SessionOptions:
        return self.__copy__()


class RunOptions:
    """onnxruntime's options of a run. `terminate = True`, set by another thread, ends the runs that use it."""

    __slots__ = ("_entries", "_listeners", "_terminate", "_values")

    log_severity_level = Option(-1, least=-1)
    log_verbosity_level = Option(0, least=0)
    logid = Option("")
    only_execute_path_to_fetches = Option(False)
    training_mode = Option(False)

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._entries: dict[str, str] = {}
        self._terminate = False
        # One for each run in progress: what ends it.
        self._listeners: list[Callable[[], None]] = []

    @property
    def terminate(self) -> bool:
        return self._terminate

    @terminate.setter
    def terminate(self, value: bool) -> None:
        self._terminate = bool(value)
        if self._terminate:
            for end in list(self._listeners):
                end()

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Kept for `get_run_config_entry`; no entry changes anything here."""
        self._entries[key] = value

    def get_run_config_entry(self, key: str) -> str:
        if key not in self._entries:
            raise InvalidArgument(f"there is no entry '{key}' in the run's configuration")
        return self._entries[key]


def _unsupported(name: str, remedy: str) -> Callable[..., None]:
    def refuse(self: Any, *arguments: Any, **named: Any) -> None:
        raise NotImplemented(f"{name} is not supported. {remedy}")

    refuse.__name__ = name
    refuse.__doc__ = f"Not supported. {remedy}"
    return refuse


_SIDE_FILES = "External data is read from the folder of the model, or from external_data_folder for a model from bytes"
_ONLY_CPU = "There is only the CPU"
for _name, _remedy in {
    "add_external_initializers": _SIDE_FILES,
    "add_external_initializers_from_files_in_memory": _SIDE_FILES,
    "add_free_dimension_override_by_denotation": "add_free_dimension_override_by_name takes names",
    "add_initializer": "overridable_initializers makes an initializer an input",
    "add_provider_for_devices": _ONLY_CPU,
    "clear_ep_context_data_read_func": _ONLY_CPU,
    "register_custom_ops_library": "Custom operators of onnxruntime cannot be loaded; functions inside the model can",
    "set_ep_context_data_read_func": _ONLY_CPU,
    "set_load_cancellation_flag": "Loading cannot be cancelled from Python",
    "set_provider_selection_policy": _ONLY_CPU,
    "set_provider_selection_policy_delegate": _ONLY_CPU,
}.items():
    setattr(SessionOptions, _name, _unsupported(_name, _remedy))
setattr(RunOptions, "add_active_adapter", _unsupported("add_active_adapter", "There are no adapters"))

_LEVELS = range(5)


def set_default_logger_severity(severity: int) -> None:
    """Accepted for onnxruntime's 0 (verbose) to 4 (fatal); the library writes no log."""
    if severity not in _LEVELS:
        raise InvalidArgument(f"the severity is {severity}; expected 0 (verbose) to 4 (fatal)")


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted; the library writes no log."""


def get_device() -> str:
    return "CPU"


def get_available_providers() -> list[str]:
    """There is only the CPU."""
    return ["CPUExecutionProvider"]


def get_all_providers() -> list[str]:
    return get_available_providers()


def disable_telemetry_events() -> None:
    """There are none."""


def enable_telemetry_events() -> None:
    """There are none."""


def set_global_thread_pool_sizes(intra_op: int, inter_op: int) -> None:
    raise NotImplemented("set_global_thread_pool_sizes is not supported; sessions have threads of their own")
