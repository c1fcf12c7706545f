"""What the library asks of Python while it quantizes: samples, measurements, and whether to go on."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from typing import Any

from ._compressed import (
    MEASURE,
    NEXT_SAMPLE,
    NO_CALL,
    PROGRESS,
    RESTART,
    Calls,
    CompressedModel,
    Given,
    Source,
    functions,
)
from ._errors import Error, InvalidArgument
from ._library import text
from ._samples import Samples
from ._session import InferenceSession
from ._values import Handles


class Interruptions:
    """Keeps an interruption by the keyboard from being raised where it would be lost: before the first line of a
    function that the library calls. It is raised inside of the next one, or when the library has returned."""

    def __init__(self) -> None:
        self.is_safe = False
        self._is_pending = False
        self._handler: Any = None

    def __enter__(self) -> Interruptions:
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


class Conversation:
    """What the library asks during a quantization. Exceptions of what is asked end it, and are kept to be raised
    again."""

    def __init__(
        self,
        source: Source,
        samples: Samples | None,
        evaluate: Callable[[InferenceSession], float] | None,
        progress: Callable[[str, int, int | None], object] | None,
    ) -> None:
        self._types = {arg.name: arg.value_type for arg in source.inputs}
        self._samples, self._evaluate, self._progress = samples, evaluate, progress
        self._error: BaseException | None = None
        self._interruptions = Interruptions()
        has_samples = samples is not None
        self._calls = Calls(
            None,
            self._guarded(NEXT_SAMPLE, self._next_sample) if has_samples else NEXT_SAMPLE(NO_CALL),
            self._guarded(RESTART, self._restart) if has_samples else RESTART(NO_CALL),
            samples.count if samples is not None else -1,
            self._guarded(MEASURE, self._measure) if evaluate is not None else MEASURE(NO_CALL),
            # Without a function of the caller too: here an interruption by the keyboard comes through.
            self._guarded(PROGRESS, self._tell),
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
                functions().sample_set(sample, text(name), handles.make(value, self._types.get(name), name))

    def _measure(self, model: int, quality: Any) -> None:
        assert self._evaluate is not None
        found: Any = self._evaluate(InferenceSession(Given(model)))
        try:
            quality[0] = float(found)
        except (TypeError, ValueError):
            quality[0] = math.nan
        if math.isnan(quality[0]):
            raise InvalidArgument(f"evaluate returned {found!r}; expected a number, more being better")

    def _tell(self, stage: bytes, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(stage.decode(), done, None if total < 0 else total)

    def hold(self, work: Callable[[Calls], CompressedModel]) -> CompressedModel:
        """What `work` makes with the functions; what one of them has raised, if one has."""
        try:
            with self._interruptions:
                return work(self._calls)
        except Error as error:
            failure = error
        finally:
            # The functions refer to this object, and this object to them.
            del self._calls
        kept, self._error = self._error, None
        try:
            # Frames that hold objects of ctypes would keep everything alive: the collector does not look into these.
            raise failure.with_traceback(None) if kept is None else kept
        finally:
            del failure, kept
