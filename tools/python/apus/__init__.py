"""Apus, an ONNX engine: runs models on NumPy arrays.

    import apus

    session = apus.InferenceSession("digits.onnx", threads=2)
    print(session.get_inputs()[0])
    (probabilities,) = session.run(None, {"input": images})

A process that forks must make its sessions after the fork.
"""

from ._errors import CancelledError, Error, ErrorCode, InputError, LibraryNotFoundError, ModelError
from ._session import Cancellation, InferenceSession, ModelMetadata, NodeArg
from ._version import __version__

__all__ = [
    "Cancellation",
    "CancelledError",
    "Error",
    "ErrorCode",
    "InferenceSession",
    "InputError",
    "LibraryNotFoundError",
    "ModelError",
    "ModelMetadata",
    "NodeArg",
    "__version__",
    "get_available_providers",
    "library_path",
    "library_version",
]


def library_path() -> str:
    """The file of the library in use."""
    from ._library import library

    return str(library().path)


def library_version() -> str:
    """The version of the library in use."""
    from ._library import library

    return str(library().version(), "utf-8")


def get_available_providers() -> list[str]:
    """There is only the CPU."""
    return ["CPUExecutionProvider"]
