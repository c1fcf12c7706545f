#!/usr/bin/env python3
"""How runs share an engine: whether those of one priority progress alike, and what an urgent run takes beside others.

Ten sessions on models of their own run on one engine for a while, each on a thread; the first table has the runs that
each has made. Then a session of high priority runs now and then, alone, beside ten of its own priority, and beside ten
in the background. Needs libapus (`swift build -c release --product apus-c`) and the python that
`tools/python-env test` prints. Keep the machine quiet.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
import apus  # noqa: E402

#: Between two urgent runs: they come now and then.
PAUSE = 0.02


def layers(count: int, width: int, seed: int) -> bytes:
    """A model of products, each followed by Tanh."""
    random = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for index in range(count):
        matrix = (random.standard_normal((width, width)) / width**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{index}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"p{index}"]))
        last = "y" if index == count - 1 else f"t{index}"
        nodes.append(helper.make_node("Tanh", [f"p{index}"], [last]))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])
    graph = helper.make_graph(nodes, "layers", [value], [result], weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


class Load:
    """Sessions that run one after the other without a pause, each on a thread of its own, while the block lasts."""

    def __init__(self, sessions: list[apus.InferenceSession], feeds: dict[str, np.ndarray]) -> None:
        self.counts = [0] * len(sessions)
        self._is_over = False
        self._threads = [
            threading.Thread(target=self._work, args=(index, session, feeds)) for index, session in enumerate(sessions)
        ]

    def _work(self, index: int, session: apus.InferenceSession, feeds: dict[str, np.ndarray]) -> None:
        while not self._is_over:
            session.run(None, feeds)
            self.counts[index] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()


def latencies(session: apus.InferenceSession, feeds: dict[str, np.ndarray], seconds: float) -> list[float]:
    """Milliseconds of runs that come now and then."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        session.run(None, feeds)
        times.append((time.perf_counter() - started) * 1e3)
        time.sleep(PAUSE)
    return times


def report(what: str, times: list[float]) -> None:
    ordered = sorted(times)
    p90 = ordered[int(0.9 * (len(ordered) - 1))]
    middle, mean = statistics.median(times), statistics.fmean(times)
    print(f"{what}: median {middle:.1f} ms, mean {mean:.1f} ms, p90 {p90:.1f} ms over {len(times)} runs", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="of the engine; every processor if not given")
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    arguments = parser.parse_args()
    engine = apus.Engine(threads=arguments.threads)
    feeds = {"x": np.ones((arguments.rows, arguments.width), np.float32)}

    def sessions(priority: apus.Priority) -> list[apus.InferenceSession]:
        models = (layers(arguments.layers, arguments.width, seed) for seed in range(arguments.sessions))
        return [apus.InferenceSession(model, engine=engine, priority=priority) for model in models]

    with Load(sessions(apus.Priority.NORMAL), feeds) as load:
        time.sleep(arguments.seconds)
        counts = list(load.counts)
    print(f"runs of each of {arguments.sessions} sessions on {engine.threads} threads: {counts}")
    print(f"the fewest are {min(counts) / max(*counts, 1):.2f} of the most")

    urgent = apus.InferenceSession(
        layers(arguments.layers, arguments.width, 99), engine=engine, priority=apus.Priority.HIGH
    )
    urgent.run(None, feeds)
    report("an urgent run, alone", latencies(urgent, feeds, arguments.seconds))
    for priority in (apus.Priority.HIGH, apus.Priority.NORMAL, apus.Priority.BACKGROUND):
        with Load(sessions(priority), feeds) as load:
            time.sleep(0.2)
            started, before = time.perf_counter(), sum(load.counts)
            times = latencies(urgent, feeds, arguments.seconds)
            rate = (sum(load.counts) - before) / (time.perf_counter() - started)
        report(f"beside {arguments.sessions} of priority {priority.name.lower()}, {rate:.0f} runs a second", times)
    return 0


if __name__ == "__main__":
    sys.exit(main())
