#!/usr/bin/env python3
"""Loads, runs and cancels one model many times and says whether memory creeps up, and whether the process idles
afterwards.

For models whose inputs are integers with two dynamic axes, the batch and the sequence, such as bert_base of
tools/export_models.py. Resident memory after each kind of work must be within 5 % of what it was after the first part
of it: loading and dropping the model, runs over random sizes, runs that are cancelled at a random moment. At the end
the process must use less than 1 % of a processor. Needs libapus (`swift build -c release --product apus-c`) and the
python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
import apus  # noqa: E402

#: The part of the rounds after which memory must not grow.
SETTLED = 0.1
GROWTH = 1.05


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def repeat(what: str, count: int, work: Callable[[int], None]) -> bool:
    """Whether memory is as large at the end of `count` rounds as after the first part of them, or not much larger."""
    started = time.monotonic()
    settled = largest = 0.0
    for index in range(count):
        work(index)
        if index < count * SETTLED:
            settled = max(settled, resident_megabytes())
        elif index % 16 == 0 or index == count - 1:
            largest = max(largest, resident_megabytes())
    grown = largest > settled * GROWTH
    print(
        f"{count} {what}: {settled:.1f} MB at first, {largest:.1f} MB at most later, {time.monotonic() - started:.0f} s"
        + (": it grows" if grown else ""),
        flush=True,
    )
    return not grown


def idles() -> bool:
    before = time.process_time()
    time.sleep(2)
    share = (time.process_time() - before) / 2
    print(f"idle: {100 * share:.2f} % of a processor", flush=True)
    return share < 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--loads", type=int, default=200)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--cancelled", type=int, default=1_000)
    parser.add_argument("--batch", type=int, default=4, help="the largest batch")
    parser.add_argument("--sequence", type=int, default=128, help="the longest sequence")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)

    def load(_: int = 0) -> apus.InferenceSession:
        return apus.InferenceSession(str(arguments.model), threads=arguments.threads)

    def feeds() -> dict[str, np.ndarray]:
        shape = (int(rng.integers(1, arguments.batch + 1)), int(rng.integers(1, arguments.sequence + 1)))
        return {
            info.name: np.ones(shape, np.int64) if "mask" in info.name else rng.integers(0, 2, shape, dtype=np.int64)
            for info in session.get_inputs()
        }

    def load_and_run(_: int) -> None:
        load().run(None, feeds())

    def cancel(_: int) -> None:
        cancellation = apus.Cancellation()
        timer = threading.Timer(float(rng.random()) * longest, cancellation.cancel)
        timer.start()
        try:
            session.run(None, feeds(), cancellation=cancellation)
        except apus.CancelledError:
            pass
        timer.cancel()
        timer.join()

    session = load()
    ok = repeat("loads", arguments.loads, load_and_run) if arguments.loads else True
    if arguments.runs:
        ok = repeat("runs of random sizes", arguments.runs, lambda _: session.run(None, feeds())) and ok
    started = time.monotonic()
    session.run(None, feeds())
    longest = time.monotonic() - started
    if arguments.cancelled:
        ok = repeat("cancelled runs", arguments.cancelled, cancel) and ok
    ok = idles() and ok
    print(f"{int(ok)} passed, {int(not ok)} failed, 0 skipped")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
