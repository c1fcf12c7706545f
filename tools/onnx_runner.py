#!/usr/bin/env python3
"""Runs onnx's own backend tests (onnx.backend.test) over the Python package, whose backend is
tools/python/apus/backend.py.

All cases of the installed onnx are run on the CPU; none is left out. Those that TestModels/conformance-unseeded.txt
lists expect random numbers that were drawn without a seed: they are compared by type, shape, range and mean. Prints the
failures and ends with the line `N passed, N failed, N skipped`; the exit status is 0 only if nothing failed. Run it
with the python that `tools/python-env test` prints; the library must have been built (`swift build -c release
--product apus-c`).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import unittest
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/python"))

import apus  # noqa: E402
import apus.backend  # noqa: E402
from onnx.backend.test import BackendTest  # noqa: E402

CASES = 2033  # of the pinned onnx 1.23.2


def listed(name: str) -> set[str]:
    """The cases that a list of TestModels names, as `kind/name`."""
    lines = (ROOT / "TestModels" / name).read_text().splitlines()
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


UNSEEDED = listed("conformance-unseeded.txt")


def assert_same_sample(expected: np.ndarray, found: np.ndarray) -> None:
    """That both may be samples of one distribution: range, and means within four standard errors of each other."""
    np.testing.assert_equal((found.dtype, found.shape), (expected.dtype, expected.shape))
    np.testing.assert_(found.min() >= expected.min() and found.max() <= expected.max(), f"range of {found}")
    error = 4 * (2 * expected.var(ddof=1) / expected.size) ** 0.5
    np.testing.assert_(abs(found.mean() - expected.mean()) <= error, f"mean of {found}, expected that of {expected}")


class Runner(BackendTest):
    """onnx's runner, knowing which case it is in."""

    unseeded = False

    @classmethod
    def assert_similar_outputs(
        cls,
        ref_outputs: Sequence[Any],
        outputs: Sequence[Any],
        rtol: float,
        atol: float,
        model_dir: str | None = None,
    ) -> None:
        if isinstance(ref_outputs, np.ndarray) and ref_outputs.ndim == 0:
            # An element of a sequence; onnx's runner asks it for its length, which a scalar does not have.
            ref_outputs, outputs = [ref_outputs], [outputs]
        if any(getattr(expected, "dtype", None) == np.float16 for expected in ref_outputs):
            # Rounded after every step of a NumPy expression: two units in the last place, as `apus conformance` allows.
            rtol = max(rtol, 2.0**-9)
        if not cls.unseeded:
            return super().assert_similar_outputs(ref_outputs, outputs, rtol, atol, model_dir)
        for expected, found in zip(ref_outputs, outputs, strict=True):
            assert_same_sample(expected, found)


def cases(runner: Runner, pattern: str) -> list[tuple[str, unittest.TestCase]]:
    """The tests of the CPU by name, without the ending that onnx gives them for the device."""
    found = []
    for kind in runner.test_cases.values():
        for name in unittest.defaultTestLoader.getTestCaseNames(kind):
            if name.endswith("_cpu") and re.search(pattern, name.removesuffix("_cpu")):
                found.append((name.removesuffix("_cpu"), kind(name)))
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose name matches")
    parser.add_argument("--unoptimized", action="store_true", help="run the graphs as the files have them")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs that onnx makes up (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="threads of one run")
    parser.add_argument("--verbose", action="store_true", help="print the whole of each failure")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()

    class Chosen(apus.backend.ApusBackend):
        """The backend with the options of the command line."""

        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> apus.backend.ApusBackendRep:
            options = {"threads": arguments.threads, "optimize": not arguments.unoptimized}
            return super().prepare(model, device, **options, **kwargs)

    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="apus-onnx-") as home:
        os.environ["ONNX_HOME"] = home  # where the runner puts the data of the light models
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the generators of the cases overflow and divide by zero on purpose
            np.random.seed(arguments.seed)  # they draw from NumPy's global state
            chosen = cases(Runner(Chosen, __name__), arguments.filter)
        for name, test in chosen:
            Runner.unseeded = f"node/{name}" in UNSEEDED
            result = unittest.TestResult()
            test.run(result)
            skipped += len(result.skipped)
            problems = result.errors + result.failures
            failed += bool(problems)
            passed += not problems and not result.skipped
            for _, trace in problems:
                lines = trace.strip().splitlines()
                first = next((i for i, line in enumerate(lines) if re.match(r"\S*(Error|Exception)\b", line)), -1)
                print(f"{name}: " + (trace if arguments.verbose else " ".join(lines[first:][:5])[:300]), flush=True)
    if not arguments.filter and len(chosen) != CASES:
        failed += 1
        print(f"{len(chosen)} cases; there should be {CASES}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
