"""The exceptions of the package."""

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


class Error(RuntimeError):
    """What went wrong, in words, and as a code."""

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


class CancelledError(Error):
    """The run was cancelled, or its time was over."""


_CLASSES: dict[ErrorCode, type[Error]] = {
    ErrorCode.INVALID_ARGUMENT: InputError,
    ErrorCode.INVALID_INPUT: InputError,
    ErrorCode.CANNOT_READ: ModelError,
    ErrorCode.MALFORMED: ModelError,
    ErrorCode.WRONG_FORMAT: ModelError,
    ErrorCode.EXTERNAL_DATA: ModelError,
    ErrorCode.INVALID_MODEL: ModelError,
    ErrorCode.CANCELLED: CancelledError,
}


def make_error(code: int, message: str) -> Error:
    """The exception for a code and message of the library."""
    try:
        known = ErrorCode(code)
    except ValueError:  # of a later version of the library
        known = ErrorCode.OTHER
    return _CLASSES.get(known, Error)(message, known)
