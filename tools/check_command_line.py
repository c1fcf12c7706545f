#!/usr/bin/env python3
"""Holds the program `apus` to what docs/command-line.md says: files, outputs, JSON, errors, numbers, inputs of people.

Usage: check_command_line.py [--apus PROGRAM] [NAME…], where a NAME is that of a class or test below. Ends with the line
`N passed, N failed, N skipped`; the exit status is 0 only if nothing failed. Run it with the python that
`tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus", help="the program")
    parser.add_argument("names", nargs="*", help="only tests whose name contains one of these")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tools"))
    from command_line import program

    program.APUS = str(arguments.apus.resolve())
    loader = unittest.defaultTestLoader
    loader.testNamePatterns = [f"*{name}*" for name in arguments.names] or None
    suite = loader.discover(str(ROOT / "tools/command_line"), pattern="check_*.py", top_level_dir=str(ROOT / "tools"))
    result = unittest.TextTestRunner(sys.stdout, verbosity=1).run(suite)
    # Sub-tests that fail count as one with their test.
    problems = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    skipped = len(result.skipped)
    print(f"{result.testsRun - len(problems) - skipped} passed, {len(problems)} failed, {skipped} skipped")
    return 0 if result.testsRun and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
