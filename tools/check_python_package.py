#!/usr/bin/env python3
"""Runs the tests of the Python package, tools/python/tests, and ends with the line `N passed, N failed, N skipped`;
the exit status is 0 only if nothing failed. Run it with the python that `tools/python-env test` prints; the library
must have been built (`swift build -c release --product apus-c`)."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

TESTS = Path(__file__).resolve().parent / "python/tests"


def main() -> int:
    suite = unittest.defaultTestLoader.discover(str(TESTS))
    result = unittest.TextTestRunner(sys.stdout, verbosity=1).run(suite)
    # Sub-tests that fail count as one with their test.
    problems = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    skipped = len(result.skipped)
    print(f"{result.testsRun - len(problems) - skipped} passed, {len(problems)} failed, {skipped} skipped")
    return 0 if result.testsRun and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
