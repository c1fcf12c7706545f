#!/usr/bin/env python3
"""What a new size of the inputs costs: the first run of a size less the second one, after the session has seen a few.

For models whose inputs have symbolic extents: those whose name has `batch` in it are 1, all others take the size. Needs
libapus (`swift build -c release --product apus-c`) and the python that `tools/python-env test` prints. Keep the machine
quiet: a run that is interrupted looks like a size that costs much; the median of all sizes is what counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
import apus  # noqa: E402

#: Sizes before the first that is measured: plans are made node by node until then.
WARM = 3


def feeds(session: apus.InferenceSession, size: int) -> dict[str, np.ndarray]:
    values = {}
    for info in session.get_inputs():
        shape = [1 if "batch" in str(d) else d if isinstance(d, int) else size for d in info.shape]
        values[info.name] = np.ones(shape, np.int64 if info.type == "tensor(int64)" else np.float32)
    return values


def seconds(session: apus.InferenceSession, values: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    session.run(None, values)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="+")
    parser.add_argument("--sizes", type=int, default=40, help="how many sizes are measured")
    parser.add_argument("--smallest", type=int, default=16)
    arguments = parser.parse_args()
    random = np.random.default_rng(1)
    for path in arguments.model:
        session = apus.InferenceSession(path, threads=1)
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
        costs, runs = [], []
        for size in random.permutation(arguments.sizes + WARM) + arguments.smallest:
            values = feeds(session, int(size))
            first = seconds(session, values)
            again = min(seconds(session, values) for _ in range(3))
            costs.append(first - again)
            runs.append(again)
        median = float(np.median(costs[WARM:])) * 1e6
        print(
            f"{path.name}: a new size {median:.0f} µs, {100 * median / nodes:.0f} µs for 100 nodes of the file;"
            f" a run {1e6 * float(np.median(runs[WARM:])):.0f} µs"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
