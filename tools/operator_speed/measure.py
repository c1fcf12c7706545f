"""Times a case with Apus and with onnxruntime, run by run in turn in this process, and holds the results together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from operator_speed.case import Case
from operator_speed.reasons import DIFFERENT, SLOWER, reason

import apus  # isort: skip
import onnxruntime  # isort: skip

MINIMUM_ROUNDS = 5
WARMING = 0.15  # of the seconds of a case
LIMIT = 0.9  # a case below this ratio needs a reason
# Differences allowed, relative to the largest element of the output.
TOLERANCES = {np.dtype(np.float16): 5e-3, np.dtype(np.float32): 2e-4, np.dtype(np.float64): 1e-9}


@dataclass
class Result:
    """What came of a case. status: timed, skipped (the peer has it not), failed (Apus has it not).

    Times are lower quartiles in microseconds; `difference` is the largest, relative to the largest element of its
    output, and `differs` says that it is above the tolerance and no table explains it.
    """

    name: str
    family: str
    operator: str
    size: str
    type: str
    kind: str
    status: str
    apus_us: float = 0
    peer_us: float = 0
    rounds: int = 0
    difference: float = 0
    differs: bool = False
    reason: str | None = None

    @property
    def ratio(self) -> float:
        """Above 1 Apus is ahead."""
        return self.peer_us / self.apus_us

    @property
    def is_slow(self) -> bool:
        return self.status == "timed" and self.ratio < LIMIT

    def record(self) -> dict[str, Any]:
        return asdict(self) | ({"ratio": self.ratio} if self.status == "timed" else {})


def peer_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # A worker that spins after a run takes a core from who runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def apus_session(model: bytes, threads: int) -> apus.InferenceSession:
    options = apus.SessionOptions()
    options.intra_op_num_threads = threads
    return apus.InferenceSession(model, options)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def difference(found: Any, expected: Any) -> float:
    """The largest difference relative to the largest finite element; infinity for another shape, type or place of a
    value that is not finite."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if found.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    one, other = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    largest = np.abs(other[finite]).max() or 1.0
    return float(np.abs(one[finite] - other[finite]).max() / largest)


def allowed(case: Case, output: Any) -> float:
    """Whole numbers are equal, or where the case has a tolerance one step apart."""
    array = np.asarray(output)
    if array.dtype.kind in "iu":
        return 1 / max(1, int(np.abs(array.astype(np.int64)).max(initial=1))) if case.tolerance else 0.0
    return case.tolerance if case.tolerance is not None else TOLERANCES.get(array.dtype, 0.0)


def timed(run: Callable[[], Any]) -> float:
    before = time.perf_counter()
    run()
    return time.perf_counter() - before


def in_turn(first: Callable[[], Any], second: Callable[[], Any], seconds: float) -> tuple[list[float], list[float]]:
    """Times of both, run by run, each the first of a round every other time."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    turn = 0
    while len(times[0]) < MINIMUM_ROUNDS or time.perf_counter() < end:
        order = ((0, first), (1, second)) if turn % 2 == 0 else ((1, second), (0, first))
        for index, run in order:
            times[index].append(timed(run))
        turn += 1
    return times


def measure(case: Case, threads: int, seconds: float) -> Result:
    result = Result(case.name, case.family, case.operator, case.size, case.type, case.kind, "timed")
    model, feeds = case.build()
    data = model.SerializeToString()
    try:
        peer = peer_session(data, threads)
        expected = peer.run(None, feeds)
    except Exception as error:  # noqa: BLE001 — what onnxruntime raises has no common base
        result.status, result.reason = "skipped", f"onnxruntime: {first_line(error)}"
    try:
        session = apus_session(data, threads)
        found = session.run(None, feeds)
    except apus.Error as error:
        result.status, result.reason = "failed", first_line(error)
    if result.status != "timed":
        return result
    for one, other in zip(found, expected, strict=True):
        apart = difference(one, other)
        result.difference = max(result.difference, apart)
        result.differs |= apart > allowed(case, other)
    if result.differs and (text := reason(DIFFERENT, case.name)):
        result.differs, result.reason = False, text

    def run_apus() -> Any:
        return session.run(None, feeds)

    def run_peer() -> Any:
        return peer.run(None, feeds)

    in_turn(run_apus, run_peer, seconds * WARMING)
    ours, theirs = in_turn(run_apus, run_peer, seconds)
    result.apus_us, result.peer_us = (float(np.percentile(times, 25)) * 1e6 for times in (ours, theirs))
    result.rounds = len(ours)
    if result.is_slow:
        result.reason = result.reason or reason(SLOWER, case.name)
    return result
