#!/usr/bin/env python3
"""Runs the unit tests that `swift build --build-tests` has built, shows what failed, and ends with the line
`N passed, N failed, N skipped`. Arguments go to `swift test`: -c release, --scratch-path …, --filter …"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    command = ["swift", "test", "--skip-build", *sys.argv[1:]]
    ran = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    text = ran.stdout
    for line in [line for line in text.splitlines() if re.search(r"error:|✘|Fatal|WARNING: ThreadSanitizer", line)][
        :60
    ]:
        print(line)
    count = failures = skips = 0
    # XCTest, where there are any: `Executed N tests, with M failures`.
    executed = re.findall(r"Executed (\d+) tests?, with (?:(\d+) tests? skipped and )?(\d+) failures?", text)
    if executed:
        count, skips, failures = (int(part or 0) for part in executed[-1])
    # Swift Testing: `Test run with N tests in … passed`, or `failed … with M issues`.
    run = re.findall(r"Test run with (\d+) tests?", text)
    if run:
        count += int(run[-1])
        failures += len(set(re.findall(r"✘ Test (\S+.*?) failed after", text)))
        skips += len(re.findall(r"➜ Test .* skipped", text))
    if not run or (ran.returncode != 0 and failures == 0):
        # The process ended before it could say what it had found.
        print("\n".join(text.splitlines()[-40:]))
        failures += 1
    print(f"{max(count - failures - skips, 0)} passed, {failures} failed, {skips} skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
