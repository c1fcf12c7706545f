"""Processes that fork: multiprocessing does so on Linux. APUS_FORKS says how many forks the long test makes; 200 by
default."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models_for_tests import long_model, model_of, tensor  # noqa: E402

import apus  # noqa: E402

FORKS = int(os.environ.get("APUS_FORKS", "200"))
CHILD_SECONDS = 20


def chain() -> bytes:
    """Reductions and elementwise operators over constants: many kernels that are prepared side by side."""
    nodes = []
    for i in range(8):
        nodes += [
            helper.make_node("ReduceMax", [f"x{i}", "axes"], [f"m{i}"]),
            helper.make_node("Sub", [f"x{i}", f"m{i}"], [f"d{i}"]),
            helper.make_node("Exp", [f"d{i}"], [f"x{i + 1}"]),
        ]
    axes = numpy_helper.from_array(np.array([2]), "axes")
    kind = tensor(TensorProto.FLOAT, ["a", "b", "c"])
    return model_of(nodes, {"x0": kind}, ["x8"], initializer=[axes]).SerializeToString()


def ends_well(work: Callable[[], bool]) -> bool:
    """Whether `work` is true in a child, which has a time to end in."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(CHILD_SECONDS)
        result = 1
        try:
            result = 0 if work() else 2
        finally:
            os._exit(result)
    return os.waitpid(pid, 0)[1] == 0


class Forks(unittest.TestCase):
    def setUp(self) -> None:
        self.data = chain()
        self.input = {"x0": np.random.default_rng(0).standard_normal((40, 50, 60)).astype(np.float32)}
        self.expected = apus.InferenceSession(self.data, threads=1).run(None, self.input)[0]

    def is_right(self, session: apus.InferenceSession) -> bool:
        return np.array_equal(session.run(None, self.input)[0], self.expected)

    def test_children_load_models(self) -> None:
        """Loading and running with two threads, in children of a process that has used the library."""
        self.assertTrue(apus.library_version())
        for index in range(FORKS):
            self.assertTrue(ends_well(lambda: self.is_right(apus.InferenceSession(self.data, threads=2))), index)

    def test_children_use_sessions_of_the_parent(self) -> None:
        session = apus.InferenceSession(self.data, threads=3)
        self.assertTrue(self.is_right(session))
        for index in range(FORKS // 4):
            self.assertTrue(ends_well(lambda: self.is_right(session) and self.is_right(session)), index)
            self.assertTrue(self.is_right(session))

    def test_children_drop_sessions_of_the_parent(self) -> None:
        sessions = [apus.InferenceSession(self.data, threads=2)]

        def work() -> bool:
            sessions.clear()
            return self.is_right(apus.InferenceSession(self.data, threads=2))

        self.assertTrue(ends_well(work))

    def test_grandchildren(self) -> None:
        session = apus.InferenceSession(self.data, threads=2)
        self.assertTrue(ends_well(lambda: self.is_right(session) and ends_well(lambda: self.is_right(session))))
        self.assertTrue(ends_well(lambda: ends_well(lambda: self.is_right(session))))

    def test_children_with_threads(self) -> None:
        session = apus.InferenceSession(self.data, threads=2)

        def work() -> bool:
            right: list[bool] = []

            def run() -> None:
                right.extend(self.is_right(session) for _ in range(5))

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            run()
            for thread in threads:
                thread.join()
            return right == [True] * 25

        for _ in range(5):
            self.assertTrue(ends_well(work))

    def test_forks_beside_running_threads(self) -> None:
        """A fork waits for runs of other threads to end, so that nothing is half done in the child."""
        session = apus.InferenceSession(self.data, threads=2)
        stop = threading.Event()
        wrong: list[bool] = []

        def run() -> None:
            while not stop.is_set():
                if not self.is_right(session):
                    wrong.append(True)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for index in range(max(10, FORKS // 10)):
                self.assertTrue(ends_well(lambda: self.is_right(session)), index)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(wrong, [])

    def test_fork_in_the_middle_of_a_long_run(self) -> None:
        """Where waiting would take too long the child is told so, and does not hang."""
        session = apus.InferenceSession(long_model(), threads=1)
        cancellation = apus.Cancellation()
        value = {"x": np.zeros((1500, 1500), np.float32)}

        def run() -> None:
            with contextlib.suppress(apus.CancelledError):
                session.run(None, value, cancellation=cancellation)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.2)

        def work() -> bool:
            try:
                apus.InferenceSession(self.data)
            except apus.Error as error:
                return "forked" in str(error)
            return False

        try:
            self.assertTrue(ends_well(work))
        finally:
            cancellation.cancel()
            thread.join()
        self.assertTrue(self.is_right(apus.InferenceSession(self.data)))


if __name__ == "__main__":
    unittest.main()
