#!/usr/bin/env python3
"""Runs one model many times over random sizes and says whether its memory creeps up, and whether it idles afterwards.

For models with the dimensions `batch` and `sequence` and integer inputs, such as bert_base of tools/export_models.py.
The peak memory after all runs must be within 5 % of that after the first `--settle` runs; afterwards the process must
use less than 1 % of a processor. Needs libapus (`swift build -c release --product apus-c`) and the python that
`tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
import apus  # noqa: E402


def peak_megabytes() -> float:
    """The largest resident memory of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument(
        "--settle", type=int, default=500, help="runs after which the memory must not grow (default 500)"
    )
    parser.add_argument("--batch", type=int, default=4, help="the largest batch")
    parser.add_argument("--sequence", type=int, default=128, help="the longest sequence")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    session = apus.InferenceSession(str(arguments.model), threads=arguments.threads)
    names = [info.name for info in session.get_inputs()]
    rng = np.random.default_rng(arguments.seed)
    settled = 0.0
    started = time.monotonic()
    for run in range(1, arguments.runs + 1):
        shape = (int(rng.integers(1, arguments.batch + 1)), int(rng.integers(1, arguments.sequence + 1)))
        feeds = {
            name: np.ones(shape, np.int64) if "mask" in name else rng.integers(0, 2, shape, dtype=np.int64)
            for name in names
        }
        session.run(None, feeds)
        if run == arguments.settle:
            settled = peak_megabytes()
            print(f"{run} runs: peak {settled:.1f} MB", flush=True)
        elif run % 500 == 0:
            print(f"{run} runs: peak {peak_megabytes():.1f} MB, {time.monotonic() - started:.0f} s", flush=True)
    final = peak_megabytes()
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(2)
    idle = (time.process_time() - before) / 2
    growth = final / settled - 1 if settled else 0.0
    print(
        f"peak after {arguments.settle} runs {settled:.1f} MB, after {arguments.runs} runs {final:.1f} MB:"
        f" {growth:+.2%}"
    )
    print(f"idle: {idle:.2%} of a processor")
    return 0 if growth <= 0.05 and idle < 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
