#!/usr/bin/env python3
"""Breaks files of models of every format (TensorFlow Lite, ONNX Runtime, Keras, PyTorch, ONNX as text) in thousands of
ways that know how they are built: fields, offsets and vectors of FlatBuffers; values, keys and depth of JSON; entries
of archives; HDF5 and pickles. Checks that Apus survives: every mutant must end in a graph that the checker accepts or
in a reported error, in bounded time and memory. Nothing is run.

The frame is that of tools/fuzz_containers.py. Seeds are the fixtures of ApusFormatsTests, small models of TestModels as
text, and files that are made here by hand, or the files given. Ends with the line `N passed, N failed, N skipped`. What
broke a rule is kept below .cache/fuzz.

    tools/fuzz_importers.py --count 50000 --seed 7
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import fuzz_containers
import fuzz_models
from fuzz_models import CACHE, ROOT

FIXTURES = ROOT / "Tests/ApusFormatsTests/Fixtures"
# What a mutant that ends the process keeps from being read is behind it in the same process.
PER_PROCESS = 250
KINDS = (".tflite", ".ort", ".keras", ".h5", ".pt2", ".pt", ".pth")


def seeds(folder: Path) -> list[Path]:
    """All fixtures, those that lie in archives too, and models as text."""
    found = [path for path in FIXTURES.rglob("*") if path.suffix in KINDS]
    for archive in sorted(FIXTURES.rglob("*.zip")):
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if Path(name).suffix in KINDS:
                    (folder / Path(name).name).write_bytes(packed.read(name))
    fuzz_containers.made_models(folder)
    return sorted(found + list(folder.iterdir()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many mutants (default 20000)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--seed", type=int, default=1, help="which series of mutants (default 1)")
    parser.add_argument("--driver", type=Path, help="a driver that is built already, with a sanitizer for example")
    parser.add_argument("--megabytes", type=int, default=1024, help="what a process may hold at most (default 1024)")
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of seeds")
    parser.add_argument("seeds", nargs="*", type=Path, help="files of models to mutate")
    arguments = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    driver = arguments.driver or fuzz_models.build()
    with tempfile.TemporaryDirectory() as folder:
        files = [path.resolve() for path in arguments.seeds] or seeds(Path(folder))
        files = [path for path in files if not arguments.only or any(part in path.name for part in arguments.only)]
        fuzzing = fuzz_containers.Fuzzing(
            driver.resolve(), files, arguments, "importers", arguments.megabytes, PER_PROCESS
        )
        return fuzzing.finish()


if __name__ == "__main__":
    sys.exit(main())
