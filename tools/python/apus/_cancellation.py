"""Wishes to end runs early."""

from __future__ import annotations

from ._errors import InvalidArgument
from ._library import library
from ._options import RunOptions


class Cancellation:
    """A wish to end runs early: set by `cancel`, from any thread, or by itself so many seconds after it was made."""

    def __init__(self, seconds: float | None = None) -> None:
        self._release = library().cancellation_release
        if seconds is not None and not seconds > 0:
            raise InvalidArgument(f"seconds is {seconds}; expected more than 0")
        self._handle: int = library().cancellation_create(seconds or 0.0)

    def cancel(self) -> None:
        """Ends the runs that were started with it, and those that will be."""
        library().cancellation_cancel(self._handle)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._release(self._handle)


class Ending:
    """What may end one run: a time, a cancellation, or `terminate` of its options, while the `with` block lasts."""

    def __init__(self, options: RunOptions | None, timeout: float | None, cancellation: Cancellation | None) -> None:
        if options is not None and not isinstance(options, RunOptions):
            raise InvalidArgument(f"run_options is {type(options).__name__}; expected RunOptions")
        if cancellation is not None and (timeout is not None or options is not None):
            raise InvalidArgument(
                "a cancellation and timeout or run_options are given; Cancellation(seconds) has a time, and ends runs "
                "as RunOptions.terminate does"
            )
        self._options = options
        self.cancellation = cancellation
        if timeout is not None or options is not None:
            self.cancellation = Cancellation(timeout)

    def __enter__(self) -> int:
        """The address of the cancellation; 0 if nothing ends the run."""
        if self.cancellation is None:
            return 0
        if self._options is not None:
            # In this order, so that a wish between both lines is not lost.
            self._options._listeners.append(self.cancellation.cancel)
            if self._options.terminate:
                self.cancellation.cancel()
        return self.cancellation._handle

    def __exit__(self, *_: object) -> None:
        if self._options is not None and self.cancellation is not None:
            self._options._listeners.remove(self.cancellation.cancel)
