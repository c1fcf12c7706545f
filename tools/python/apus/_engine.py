"""Engines: threads and memory that sessions share."""

from __future__ import annotations

import ctypes
from enum import IntEnum

from ._errors import InvalidArgument
from ._library import library


class Priority(IntEnum):
    """How urgent the runs of a session are, compared with those of other sessions on the same engine.

    As long as more urgent runs want all processors, others stand still, but for a small share of the time. Results do
    not depend on it.
    """

    BACKGROUND = -1
    NORMAL = 0
    HIGH = 1


class Engine:
    """Threads, weights and a limit on memory that sessions share; those that name no engine share one of the process.

    >>> engine = apus.Engine(threads=4, memory_budget=2 << 30)
    >>> session = apus.InferenceSession("digits.onnx", engine=engine)
    """

    def __init__(self, threads: int | None = None, memory_budget: int | None = None) -> None:
        """threads: all threads, the caller of a run included; None for one for each processor that this process may
        use.
        memory_budget: the bytes that all sessions on the engine and their runs may hold at a time, results that are
            still referred to included; None for no limit. What does not fit, a session or a run, raises an error that
            tells who has how much.
        """
        self._release = library().engine_release
        if threads is not None and threads < 1:
            raise InvalidArgument(f"threads is {threads}; expected 1 or more")
        if memory_budget is not None and memory_budget < 1:
            raise InvalidArgument(f"memory_budget is {memory_budget}; expected 1 or more")
        result = ctypes.c_void_p()
        library().engine_create(threads or 0, memory_budget or 0, ctypes.byref(result))
        assert result.value is not None
        self._handle: int = result.value

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._release(self._handle)

    @property
    def threads(self) -> int:
        """The threads that one run may use."""
        return int(library().engine_thread_count(self._handle))

    @property
    def memory_budget(self) -> int | None:
        """The limit on memory in bytes; None for none."""
        return int(library().engine_memory_budget(self._handle)) or None

    @property
    def memory_in_use(self) -> int:
        """The bytes that sessions, runs and results hold at the moment. Counted only with a budget; else 0."""
        return int(library().engine_memory_in_use(self._handle))
