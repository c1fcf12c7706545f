#!/usr/bin/env python3
"""Exports the models that Apus is judged by, with seeded random weights, as a user of each framework would.

Writes OUTPUT/NAME.onnx and OUTPUT/NAME.inputs.json (how to feed it, see tools/model_inputs.py). Each model is made in a
process of its own and checked there against the framework it came from. A model that is already present is kept;
--force makes it again. Run it with the python that `tools/python-env export` prints.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from model_inputs import sidecar
from model_zoo import builder, model_names

ROOT = Path(__file__).resolve().parent.parent
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=ROOT / ".cache/models", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=model_names(), default=model_names())
    parser.add_argument("--list", action="store_true", help="print the names and write nothing")
    parser.add_argument("--force", action="store_true", help="make models again that are already there")
    parser.add_argument("--in-process", action="store_true", help="make them in this process (for debugging)")
    return parser.parse_args()


def export(name: str, output: Path) -> None:
    """Writes one model. The sidecar comes last: it marks the model as finished."""
    path = output / f"{name}.onnx"
    sidecar(path).unlink(missing_ok=True)
    builder(name)(path).write(path)


def export_apart(name: str, output: Path) -> bool:
    """Writes one model in a fresh process, so that frameworks do not meet and memory is given back."""
    command = [sys.executable, __file__, "--output", str(output), "--only", name, "--force", "--in-process"]
    finished = subprocess.run(command, env={**os.environ, **QUIET}, capture_output=True, text=True)
    if finished.returncode:
        print("\n".join((finished.stdout + finished.stderr).splitlines()[-40:]), file=sys.stderr)
    return finished.returncode == 0


def main() -> int:
    arguments = parse_arguments()
    if arguments.list:
        print("\n".join(arguments.only))
        return 0
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.only:
        path = arguments.output / f"{name}.onnx"
        if sidecar(path).exists() and not arguments.force:
            continue
        if arguments.in_process:
            export(name, arguments.output)
            continue
        started = time.monotonic()
        if export_apart(name, arguments.output):
            size = path.stat().st_size / 1e6
            print(f"{name}: {size:.1f} MB, {time.monotonic() - started:.0f} s", flush=True)
        else:
            failed.append(name)
            print(f"{name}: failed", flush=True)
    if failed:
        print(f"not exported: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
