#!/usr/bin/env python3
"""Breaks models and their inputs in thousands of ways and checks that Apus survives: every mutant must end in a result
or in a reported error, within its limits of memory and time, twice with the same bits, and with and without passes
alike.

The work is done by tools/fuzz (a Swift program that mutates, reads, prepares and runs in one process); this script
builds it, deals the mutants out to processes, and says what failed. A process that dies goes on behind the mutant that
ended it. Mutant K of a seed is the same on every machine that has the same models. What broke a rule is kept below
.cache/fuzz.

Seeds of mutants are the ONNX backend suite with its inputs (tools/test makes it in .cache) and TestModels, or the
folders and models given. One of ten mutants breaks files byte by byte instead: TestModels and the samples of
ApusFormatsTests and ApusContainersTests, arrays among them (.npy, .npz), read as every kind of file.

    tools/fuzz_models.py --count 200000 --seed 7          in series 7, mutants 0 to 199,999
    tools/fuzz_models.py --seed 7 --only 4711             one of them again, with what it says
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "fuzz"
MUTANTS_PER_PROCESS = 2000
FILES_PER_PROCESS = 1000
SLOWEST_MILLISECONDS = 10_000  # of a broken file, with the sanitizer
MEGABYTES = 3000  # the most memory a process on broken files may hold; the sanitizer keeps freed blocks for a while
LARGEST_SEED = 300_000  # bytes of a model with its inputs
ENVIRONMENT = os.environ | {
    "SWIFT_BACKTRACE": "enable=no",
    # Leaks are not looked for: enum cases of constants that the compiler tags look like lost pointers.
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0:allocator_may_return_null=0:max_allocation_size_mb=4096",
}


def build() -> Path:
    """Builds the driver and returns its path."""
    command = ["swift", "build", "-c", "release", "--product", "ApusFuzz"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if built.returncode != 0:
        sys.exit(built.stdout)
    shown = subprocess.run([*command, "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True)
    return Path(shown.stdout.strip()) / "ApusFuzz"


def default_cases() -> list[Path]:
    suite = ROOT / ".cache" / "onnx-backend-tests"
    # The light models are large networks; they do nothing that the others do not do too.
    cases = [path.parent for path in suite.glob("*/*/model.onnx") if path.parent.parent.name != "light"]
    cases += [path for path in (ROOT / "TestModels").glob("*.onnx")]

    def size(path: Path) -> int:
        files = [path] if path.is_file() else [path / "model.onnx", *path.glob("test_data_set_0/input_*.pb")]
        return sum(file.stat().st_size for file in files)

    return sorted(path for path in cases if size(path) <= LARGEST_SEED)


def default_files() -> list[Path]:
    tests = ROOT / "Tests"
    folders = [ROOT / "TestModels", tests / "ApusFormatsTests/Samples", tests / "ApusContainersTests/Samples"]
    kinds = (".onnx", ".npy", ".npz")
    return sorted(
        path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix in kinds and path.stat().st_size < 100_000
    )


def ending(status: int) -> str:
    """What the status of a process says."""
    if status == -signal.SIGALRM:
        return "no end"
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


class Fuzzing:
    """A series of mutants, dealt out to threads that each look after one process at a time."""

    def __init__(self, driver: Path, cases: list[Path], files: list[Path], arguments: argparse.Namespace) -> None:
        self.driver, self.files, self.seed, self.jobs = driver, files, arguments.seed, arguments.jobs
        self.megabytes = arguments.space_mb
        self.count = arguments.count
        self.list = CACHE / f"cases-{arguments.seed}.txt"
        self.list.write_text("".join(f"{path}\n" for path in cases))
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.done = 0
        self.lock = threading.Lock()

    def fault(self, text: str) -> None:
        with self.lock:
            self.faults.append(text)
            print(f"FAILED {text}", flush=True)

    def describe(self, number: int) -> str:
        """Keeps a mutant and says what it is."""
        folder = CACHE / f"{self.seed}-{number}"
        command = [self.driver, "mutant", self.list, str(self.seed), str(number), folder]
        made = subprocess.run(command, capture_output=True, text=True, errors="replace", env=ENVIRONMENT)
        return f"{made.stdout.strip() or ending(made.returncode)}; kept in {folder}"

    def run_cases(self, job: int) -> None:
        """The mutants whose number leaves the remainder `job`."""
        journal = CACHE / f"journal-{self.seed}-{job}"
        numbers = range(job, self.count, self.jobs)
        position = 0
        while position < len(numbers):
            count = min(MUTANTS_PER_PROCESS, len(numbers) - position)
            command = [
                self.driver,
                "cases",
                self.list,
                journal,
                self.seed,
                numbers[position],
                count,
                self.jobs,
                CACHE,
                self.megabytes,
            ]
            ran = subprocess.run(
                list(map(str, command)), capture_output=True, text=True, errors="replace", env=ENVIRONMENT
            )
            lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
            for line in lines:
                if "mutant" in line:
                    self.fault(f"mutant {line['mutant']} of {line['seed']} ({line['notes']}): {line['faults']}")
            if ran.returncode == 0:
                summary = lines[-1] if lines else {}
                position += count
            else:
                (last,) = struct.unpack("q", journal.read_bytes()[:8])
                text = ran.stderr.strip()[-1500:]
                self.fault(f"mutant {last} ends the process: {ending(ran.returncode)}: {self.describe(last)}\n{text}")
                done = numbers.index(last) + 1 - position if last in numbers else count
                summary = {"died or ran before": done}
                position += max(done, 1)
            with self.lock:
                self.outcomes.update({kind: int(number) for kind, number in summary.items()})
                self.done += sum(map(int, summary.values()))
        journal.unlink(missing_ok=True)

    def run_files(self, job: int, count: int) -> None:
        """Files broken byte by byte."""
        for start in range(0, count, FILES_PER_PROCESS):
            seed = self.seed * 1000 + job + self.jobs * (start // FILES_PER_PROCESS)
            number = min(FILES_PER_PROCESS, count - start)
            case = CACHE / f"file-{seed}"
            command = [self.driver, "mutate", case, seed, number, *self.files]
            try:
                ran = subprocess.run(
                    list(map(str, command)),
                    capture_output=True,
                    text=True,
                    errors="replace",
                    env=ENVIRONMENT,
                    timeout=60 + number,
                )
            except subprocess.TimeoutExpired:
                self.fault(f"a broken file finds no end: {case}")
                continue
            if ran.returncode != 0:
                self.fault(f"a broken file ends the process: {ending(ran.returncode)}: {case}\n{ran.stderr[-1500:]}")
                continue
            report = json.loads(ran.stdout)
            if report["slowest_ms"] > SLOWEST_MILLISECONDS:
                self.fault(f"a broken file took {report['slowest_ms']} ms: {case}.slow")
            if report["peak_rss_mb"] > MEGABYTES:
                self.fault(f"broken files took {report['peak_rss_mb']} MB (seed {seed}, {number} of them)")
            case.unlink(missing_ok=True)
            with self.lock:
                self.done += number
                self.outcomes.update({"file: " + kind: value for kind, value in report["outcomes"].items()})

    def work(self, job: int) -> None:
        self.run_cases(job)
        self.run_files(job, self.count // 10 // self.jobs)

    def run(self) -> int:
        started = time.monotonic()
        threads = [threading.Thread(target=self.work, args=(job,)) for job in range(self.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        print(f"{self.done} mutants of seed {self.seed} in {seconds:.0f} s")
        for kind, number in self.outcomes.most_common():
            print(f"  {number:7d}  {kind}")
        print(f"{max(self.done - len(self.faults), 0)} passed, {len(self.faults)} failed, 0 skipped")
        return 1 if self.faults else 0

    def run_one(self, number: int) -> int:
        print(self.describe(number))
        command = [
            self.driver,
            "cases",
            self.list,
            CACHE / "journal-one",
            self.seed,
            number,
            1,
            1,
            CACHE,
            self.megabytes,
        ]
        ran = subprocess.run(list(map(str, command)), env=ENVIRONMENT | {"SWIFT_BACKTRACE": "enable=yes,color=no"})
        print(ending(ran.returncode))
        return 0 if ran.returncode == 0 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many mutants (default 20000)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--seed", type=int, default=1, help="which series of mutants (default 1)")
    parser.add_argument("--only", type=int, metavar="K", help="make and run mutant K of the series, and nothing else")
    parser.add_argument("--driver", type=Path, help="a driver that is built already, with a sanitizer for example")
    parser.add_argument(
        "--space-mb", type=int, default=8192, help="address space of a process; 0: no bound (default 8192)"
    )
    parser.add_argument("seeds", nargs="*", type=Path, help="test cases (folders) or models to mutate")
    arguments = parser.parse_args()

    cases = [path.resolve() for path in arguments.seeds] or default_cases()
    if len(cases) < 100 and not arguments.seeds:
        sys.exit(
            f"fuzz_models: {len(cases)} test cases were found; tools/onnx_backend_tests.py writes them into .cache"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    fuzzing = Fuzzing(arguments.driver or build(), cases, default_files(), arguments)
    return fuzzing.run() if arguments.only is None else fuzzing.run_one(arguments.only)


if __name__ == "__main__":
    sys.exit(main())
