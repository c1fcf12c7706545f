#!/usr/bin/env python3
"""Runs the tests of the Python package, tools/python/tests: with its extension, where that can be compiled, and the
basic ones without it, since both must do the same. Ends with the line `N passed, N failed, N skipped`; the exit status
is 0 only if nothing failed. Run it with the python that `tools/python-env test` prints; the library must have been
built (`swift build -c release --product apus-c`)."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
TESTS = TOOLS / "python/tests"
BASIC = "test_apus.py"
WITHOUT = "--without-extension"


def run(pattern: str) -> tuple[int, int, int]:
    """The numbers of tests that passed, failed, were skipped."""
    suite = unittest.defaultTestLoader.discover(str(TESTS), pattern)
    result = unittest.TextTestRunner(sys.stdout, verbosity=1).run(suite)
    # Sub-tests that fail count as one with their test.
    problems = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    skipped = len(result.skipped)
    return result.testsRun - len(problems) - skipped, len(problems), skipped


def main() -> int:
    if WITHOUT in sys.argv[1:]:
        counts = run(BASIC)
    else:
        built = subprocess.run([sys.executable, TOOLS / "build-python-extension"], stdout=subprocess.DEVNULL)
        if built.returncode not in (0, 3):  # 3: there is no compiler, or no headers, and so no extension
            print("the extension does not compile")
            return 1
        print("with the extension" if built.returncode == 0 else "no extension can be compiled here", flush=True)
        counts = run("test_*.py")
        if built.returncode == 0:
            print("without the extension", flush=True)
            done = subprocess.run(
                [sys.executable, __file__, WITHOUT],
                env=os.environ | {"APUS_EXTENSION": "0"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            print(done.stdout)
            last = [line.split() for line in done.stdout.splitlines() if line.endswith(" skipped")]
            more = [int(word) for word in last[-1][::2]] if last else [0, 1, 0]
            counts = tuple(a + b for a, b in zip(counts, more, strict=True))  # type: ignore[assignment]
    passed, failed, skipped = counts
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
