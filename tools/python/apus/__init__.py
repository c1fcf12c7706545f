"""Apus, an ONNX engine: runs models on NumPy arrays.

    import apus

    session = apus.InferenceSession("digits.onnx", threads=2)
    print(session.get_inputs()[0])
    (probabilities,) = session.run(None, {"input": images})

The names are those of onnxruntime where there is one, so that `import apus as ort` runs its scripts;
`apus.compat.install()` does for libraries that import onnxruntime themselves.
"""

from typing import TYPE_CHECKING, Any

from ._cancellation import Cancellation
from ._engine import Engine, Priority
from ._errors import (
    CancelledError,
    CompressionError,
    Error,
    ErrorCode,
    Fail,
    InputError,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    LibraryNotFoundError,
    ModelError,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)
from ._options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_device,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_global_thread_pool_sizes,
)
from ._ortvalues import IOBinding, OrtDevice, OrtValue, copy_tensors
from ._session import InferenceSession, ModelMetadata, NodeArg, compile
from ._version import __version__

if TYPE_CHECKING:
    from ._compressed import CompressedModel
    from ._compression import cluster, prune, quantize, sparsity
    from ._convert import convert, load

__all__ = [
    "Cancellation",
    "CancelledError",
    "CompressedModel",
    "CompressionError",
    "Engine",
    "Error",
    "ErrorCode",
    "ExecutionMode",
    "ExecutionOrder",
    "Fail",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InputError",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "LibraryNotFoundError",
    "ModelError",
    "ModelMetadata",
    "NoSuchFile",
    "NodeArg",
    "NotImplemented",
    "OrtDevice",
    "OrtValue",
    "Priority",
    "RunOptions",
    "RuntimeException",
    "SessionOptions",
    "__version__",
    "cluster",
    "compile",
    "convert",
    "copy_tensors",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "library_path",
    "library_version",
    "load",
    "prune",
    "quantize",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_global_thread_pool_sizes",
    "set_seed",
    "sparsity",
]


def library_path() -> str:
    """The file of the library in use."""
    from ._library import library

    return str(library().path)


def library_version() -> str:
    """The version of the library in use."""
    from ._library import library

    return str(library().version(), "utf-8")


def get_version_string() -> str:
    return __version__


def get_build_info() -> str:
    return f"Apus {__version__}"


def set_seed(seed: int) -> None:
    """Makes the operators that draw random numbers without a seed of their own draw the same ones in each process."""
    from ._library import library

    library().set_seed(int(seed))


# What of `__all__` is imported when it is first asked for, and from where.
_LATER = {
    "CompressedModel": "_compression",
    "cluster": "_compression",
    "convert": "_convert",
    "load": "_convert",
    "prune": "_compression",
    "quantize": "_compression",
    "sparsity": "_compression",
}


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LATER.keys())


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module

        return globals().setdefault(name, getattr(import_module(f".{_LATER[name]}", __name__), name))
    from ._errors import MISSING_IN_MODULE, missing

    raise missing(name, MISSING_IN_MODULE, "module 'apus'")
