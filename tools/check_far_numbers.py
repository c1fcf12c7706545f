#!/usr/bin/env python3
"""Every operator that an importer maps, with extents and numbers that are far too large, or below 0: what a rule
multiplies or makes a list of must be bounded before. `apus formats` says the operators of exported programs of PyTorch,
of Keras and of TensorFlow Lite; each becomes models of one layer, whose arguments far_models.py draws. Each must end in
a graph that the checker accepts, or in an error, in two seconds and a gigabyte. Nothing is run.

The models are read by tools/fuzz, hundreds in a process. Ends with the line `N passed, N failed, N skipped`. What ended
otherwise is kept below .cache/fuzz.

    tools/check_far_numbers.py [--only PART…] [--count N] [--seed N] [--every N]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import far_models
import fuzz_models
from check_hostile import ROOT
from fuzz_models import CACHE, ENVIRONMENT, ending

SECONDS, MEGABYTES = 2, 1024
ADDRESS_SPACE = 8 << 30
PER_PROCESS = 200
ENDED = re.compile(r"(.*) \((\d+) ms, peak memory (\d+) MB\)\n?", re.DOTALL)
Case = tuple[str, str, Callable[[], bytes]]
"""What it is, the ending of its file, and what makes its bytes."""


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """All of the series, operator by operator."""
    told = subprocess.run([options.apus, "formats", "--json"], capture_output=True, text=True, check=True).stdout
    for form in json.loads(told)["formats"]:
        name = form["name"]
        for operator in form["operators"] if name in far_models.MAKERS else []:
            if options.only and not any(part in f"{name} {operator}" for part in options.only):
                continue
            for index in range(options.count):
                make = functools.partial(far_models.model, name, operator, options.seed, index)
                yield f"{name} {operator}, number {index} of series {options.seed}", f".{name}", make


class Reading:
    """Reads files in processes of the driver, and counts how they end."""

    def __init__(self, driver: Path, space: int) -> None:
        self.driver, self.space = driver, space
        self.passed = self.failed = 0

    def process(self, paths: list[Path]) -> tuple[int, str]:
        def bound() -> None:
            if self.space:
                resource.setrlimit(resource.RLIMIT_AS, (self.space, self.space))
            resource.setrlimit(resource.RLIMIT_CPU, (120, 120))

        command = [str(self.driver), "importer", *map(str, paths)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace", env=ENVIRONMENT,
            preexec_fn=bound,
        )  # fmt: skip
        return done.returncode, done.stdout

    def read(self, batch: list[tuple[Path, str]]) -> None:
        """All of a batch in one process; one by one where that ends, or a file takes too much."""
        status, said = self.process([path for path, _ in batch])
        # The name of a file, and what was said of it, in turn.
        parts = re.split(r"^(/\S+\.(?:pt2|keras|tflite)): ", said, flags=re.MULTILINE)[1:]
        outcomes = dict(zip(parts[::2], parts[1::2]))
        faults = [fault(outcomes.get(str(path), "")) for path, _ in batch]
        if status == 0 and not any(faults):
            self.passed += len(batch)
        elif len(batch) > 1:
            half = len(batch) // 2
            self.read(batch[:half])
            self.read(batch[half:])
        else:
            path, what = batch[0]
            kept = CACHE / f"far-{self.failed}{path.suffix}"
            kept.write_bytes(path.read_bytes())
            self.failed += 1
            print(f"FAILED {what}: {ending(status) if status else faults[0]}: {kept}", flush=True)


def fault(outcome: str) -> str:
    """What is wrong with how a file ended; peaks of a process are of all files before, too."""
    found = ENDED.fullmatch(outcome)
    if not found:
        return "no result"
    message, milliseconds, megabytes = found.groups()
    if not message.strip():
        return "no message"
    if int(milliseconds) > SECONDS * 1000:
        return f"took {milliseconds} ms"
    return f"took {megabytes} MB" if int(megabytes) > MEGABYTES else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", default=str(ROOT / ".build/release/apus"))
    parser.add_argument("--driver", type=Path, help="a driver that is built already, with a sanitizer for example")
    parser.add_argument("--space-mb", type=int, default=ADDRESS_SPACE >> 20, help="what a process may map; 0: no bound")
    parser.add_argument("--every", type=int, default=1, help="each Nth case")
    parser.add_argument("--count", type=int, default=14, help="cases of an operator (default 14)")
    parser.add_argument("--seed", type=int, default=1, help="which series of cases (default 1)")
    parser.add_argument("--only", nargs="+", default=[], help="parts of names of formats and operators")
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    reading = Reading((options.driver or fuzz_models.build()).resolve(), options.space_mb << 20)
    chosen = itertools.islice(cases(options), 0, None, options.every)
    with tempfile.TemporaryDirectory() as folder:
        while batch := list(itertools.islice(chosen, PER_PROCESS)):
            paths = [(Path(folder) / f"{index}{kind}", what) for index, (what, kind, _) in enumerate(batch)]
            for (path, _), (_, _, make) in zip(paths, batch):
                path.write_bytes(make())
            reading.read(paths)
            for path, _ in paths:
                path.unlink()
    print(f"{reading.passed} passed, {reading.failed} failed, 0 skipped")
    return 1 if reading.failed or not reading.passed else 0


if __name__ == "__main__":
    sys.exit(main())
