"""The exceptions of the package: one for each code of apus.h, under the names that onnxruntime gives them."""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """Why a call failed, with the numbers of apus.h."""

    INVALID_ARGUMENT = 1
    CANNOT_READ = 2
    MALFORMED = 3
    WRONG_FORMAT = 4
    EXTERNAL_DATA = 5
    INVALID_MODEL = 6
    INVALID_INPUT = 7
    FAILED_NODE = 8
    LIMIT_EXCEEDED = 9
    UNSUPPORTED = 10
    CANCELLED = 11
    OTHER = 12
    NOTHING_TO_DO = 13
    TARGET_NOT_MET = 14


class Error(RuntimeError):
    """What went wrong, in words, and as a code. Every exception of the package is one."""

    code: ErrorCode = ErrorCode.OTHER

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class LibraryNotFoundError(Error, ImportError):
    """libapus is missing, too old, or cannot be loaded."""


class ModelError(Error):
    """A model cannot be read, or cannot run; the message lists every problem."""


class InputError(Error, ValueError):
    """Inputs, names or options do not fit the model."""


# The names of onnxruntime. Programs catch them; those that the library has no case for are never raised.


class InvalidArgument(InputError):
    """An argument, an input or a name does not fit."""


class NoSuchFile(ModelError):
    """A file cannot be opened or read."""


class InvalidProtobuf(ModelError):
    """The bytes are no ONNX model."""


class InvalidGraph(ModelError):
    """The model was read and cannot run."""


class Fail(Error):
    """Anything without a name of its own; also runs that were ended early."""


class RuntimeException(Error):
    """A node met data or shapes that it cannot work on, or a limit was reached."""


class NotImplemented(Error):
    """The specification, or onnxruntime, allows it; Apus does not do it."""


class CompressionError(Error):
    """Nothing in the model can be compressed in the way that was asked for, or a target cannot be reached."""


class MissingName(NotImplemented, AttributeError):
    """A name of onnxruntime that Apus does not have: `hasattr` says no."""


# Names of onnxruntime's module, and of its sessions, that mean nothing here.
MISSING_IN_MODULE = frozenset(
    "AdapterFormat LoraAdapter ModelCompiler OrtAllocatorType OrtArenaCfg OrtCompileApiFlags OrtDeviceMemoryType"
    " OrtDeviceVendorId OrtEpAssignedNode OrtEpAssignedSubgraph OrtEpContextData OrtEpContextDataBuffer"
    " OrtEpDevice OrtExecutionProviderDevicePolicy OrtExternalInitializerInfo OrtHardwareDevice"
    " OrtHardwareDeviceType OrtMemType OrtMemoryInfo OrtMemoryInfoDeviceType OrtSparseFormat OrtSyncStream"
    " SessionIOBinding SparseTensor create_and_register_allocator create_and_register_allocator_v2 cuda_version"
    " get_ep_devices has_collective_ops import_capi_exception preload_dlls print_debug_info"
    " register_execution_provider_library set_default_logger_callback unregister_execution_provider_library".split()
)
MISSING_IN_SESSION = frozenset(
    "create_ortvalue_from_shape_and_type get_input_epdevices get_input_memory_infos get_output_memory_infos"
    " get_provider_graph_assignment_info get_tuning_results release_captured_graph run_with_ortvaluevector"
    " set_ep_dynamic_options set_tuning_results".split()
)


def missing(name: str, names: frozenset[str], owner: str) -> AttributeError:
    """The error for an attribute that `owner` does not have; `names` are those that onnxruntime has there."""
    if name in names:
        return MissingName(f"{name} of onnxruntime is not supported")
    return AttributeError(f"{owner} has no attribute '{name}'")


class CancelledError(Fail):
    """The run was cancelled, or its time was over."""


class NoModel(ModelError):
    """Never raised."""


class ModelLoaded(ModelError):
    """Never raised."""


class ModelLoadCanceled(ModelError):
    """Never raised."""


class ModelRequiresCompilation(ModelError):
    """Never raised."""


class EngineError(Error):
    """Never raised."""


class EPFail(Error):
    """Never raised."""


class DeviceReset(Error):
    """Never raised."""


class NotFound(Error):
    """Never raised."""


#: The exceptions that `onnxruntime.capi.onnxruntime_pybind11_state` has.
ONNXRUNTIME_NAMES = (
    DeviceReset,
    EPFail,
    EngineError,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoadCanceled,
    ModelLoaded,
    ModelRequiresCompilation,
    NoModel,
    NoSuchFile,
    NotFound,
    NotImplemented,
    RuntimeException,
)

_CLASSES: dict[ErrorCode, type[Error]] = {
    ErrorCode.INVALID_ARGUMENT: InvalidArgument,
    ErrorCode.INVALID_INPUT: InvalidArgument,
    ErrorCode.CANNOT_READ: NoSuchFile,
    ErrorCode.MALFORMED: InvalidProtobuf,
    ErrorCode.WRONG_FORMAT: InvalidProtobuf,
    ErrorCode.EXTERNAL_DATA: ModelError,
    ErrorCode.INVALID_MODEL: InvalidGraph,
    ErrorCode.FAILED_NODE: RuntimeException,
    ErrorCode.LIMIT_EXCEEDED: RuntimeException,
    ErrorCode.UNSUPPORTED: NotImplemented,
    ErrorCode.CANCELLED: CancelledError,
    ErrorCode.OTHER: Fail,
    ErrorCode.NOTHING_TO_DO: CompressionError,
    ErrorCode.TARGET_NOT_MET: CompressionError,
}


def make_error(code: int, message: str) -> Error:
    """The exception for a code and message of the library."""
    try:
        known = ErrorCode(code)
    except ValueError:  # of a later version of the library
        known = ErrorCode.OTHER
    return _CLASSES[known](message, known)
