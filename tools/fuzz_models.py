#!/usr/bin/env python3
"""Breaks models in thousands of ways and checks that Apus survives: every case must end in success or in a reported error,
within its limits of memory and time, with AddressSanitizer watching the C parts.

The work is done by tools/fuzz (a Swift program that mutates, reads, prepares and runs in one process); this script builds
it, deals the cases out to processes, and says what failed. A case that ends the process is kept in .cache/fuzz.

Usage: tools/fuzz_models.py [--count 20000] [--jobs 2] [--seed 1] [--no-sanitizer] [SEED.onnx …]
Without seed files, all of TestModels and the samples of ApusFormatsTests that are smaller than 100 KB; array files among
them (.npy, .npz) are read as arrays, and so is their text.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES_PER_PROCESS = 1000
SECONDS_PER_CASE = 10  # the slowest case may take so long, with the sanitizer and without optimization
MEGABYTES = 3000  # the most memory a process may hold; the sanitizer keeps freed blocks for a while


def build(sanitizer: bool) -> Path:
    """Builds the driver and returns its path."""
    scratch = ROOT / ".build" / ("fuzz" if sanitizer else "fuzz-plain")
    command = ["swift", "build", "--product", "ApusFuzz", "--scratch-path", str(scratch)]
    if sanitizer:
        command += ["--sanitize", "address"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if built.returncode != 0:
        sys.exit(built.stdout)
    shown = subprocess.run([*command, "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True)
    return Path(shown.stdout.strip()) / "ApusFuzz"


def default_seeds() -> list[Path]:
    folders = [ROOT / "TestModels", ROOT / "Tests" / "ApusFormatsTests" / "Samples"]
    kinds = (".onnx", ".npy", ".npz")
    return sorted(
        path for folder in folders for path in folder.iterdir() if path.suffix in kinds and path.stat().st_size < 100_000)


def run_batch(driver: Path, seeds: list[Path], cache: Path, seed: int, count: int) -> dict:
    """Runs one process over `count` cases; its report, or what killed it under "failure"."""
    case = cache / f"case-{seed}.onnx"
    environment = os.environ | {
        "SWIFT_BACKTRACE": "enable=no",
        # Leaks are not looked for: enum cases of constants that the compiler tags look like lost pointers.
        "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0:allocator_may_return_null=0:max_allocation_size_mb=4096",
    }
    command = [str(driver), "mutate", str(case), str(seed), str(count), *map(str, seeds)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=60 + count * SECONDS_PER_CASE / 10)
    except subprocess.TimeoutExpired:
        return {"failure": f"no end; the case is {case}"}
    if result.returncode != 0:
        kept = cache / f"crash-{seed}.onnx"
        if case.exists():
            shutil.move(case, kept)
        return {"failure": f"exit status {result.returncode}; the case is {kept}\n{result.stderr[-4000:]}"}
    case.unlink(missing_ok=True)
    report = json.loads(result.stdout)
    if report["slowest_ms"] > SECONDS_PER_CASE * 1000:
        report["failure"] = f"a case took {report['slowest_ms']} ms: {case}.slow"
    if report["peak_rss_mb"] > MEGABYTES:
        report["failure"] = f"{report['peak_rss_mb']} MB were used (batch seed {seed}, {count} cases)"
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many mutated models (default 20000)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; batches count up from it")
    parser.add_argument("--no-sanitizer", action="store_true", help="build without AddressSanitizer, several times faster")
    parser.add_argument("seeds", nargs="*", type=Path, help="models to break")
    arguments = parser.parse_args()

    seeds = [path.resolve() for path in arguments.seeds or default_seeds()]
    if len(seeds) < 10 and not arguments.seeds:
        sys.exit(f"fuzz_models: at least 10 seeds are needed; {len(seeds)} models were found")
    cache = ROOT / ".cache" / "fuzz"
    cache.mkdir(parents=True, exist_ok=True)
    driver = build(not arguments.no_sanitizer)
    sizes = [min(CASES_PER_PROCESS, arguments.count - start) for start in range(0, arguments.count, CASES_PER_PROCESS)]

    failures: list[str] = []
    outcomes: dict[str, int] = {}
    slowest, memory, done = 0, 0, 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        batches = [pool.submit(run_batch, driver, seeds, cache, arguments.seed + i, size) for i, size in enumerate(sizes)]
        for batch in batches:
            report = batch.result()
            if "failure" in report:
                failures.append(report["failure"])
                print(f"FAILED: {report['failure']}", flush=True)
            done += report.get("count", 0)
            slowest = max(slowest, report.get("slowest_ms", 0))
            memory = max(memory, report.get("peak_rss_mb", 0))
            for kind, number in report.get("outcomes", {}).items():
                outcomes[kind] = outcomes.get(kind, 0) + number
    print(f"{done} mutations of {len(seeds)} models; slowest {slowest} ms; peak memory {memory} MB; {len(failures)} failures")
    for kind, number in sorted(outcomes.items(), key=lambda item: -item[1]):
        print(f"  {number:7d}  {kind}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
