#!/usr/bin/env python3
"""Breaks containers of files and tensors (zip, .npz, gzip, safetensors, HDF5, FlatBuffers, pickles, files of PyTorch)
and models as text in thousands of ways that know how they are built, and checks that Apus survives: every mutant must
end in contents or in a reported error, in bounded time and memory; an archive must be read in one piece as it is read
in parts; and a text that is a model must say the same model when it is printed and read again.

The work is done by tools/fuzz, which this script builds. Seeds are the samples of ApusContainersTests, archives that
Python writes here, and small models of TestModels as text, or the files given. Ends with the line `N passed, N failed,
N skipped`. What broke a rule is kept below .cache/fuzz.

    tools/fuzz_containers.py --count 50000 --seed 7
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import json_format, text_format

import fuzz_models
from fuzz_models import CACHE, ENVIRONMENT, MEGABYTES, ROOT, SLOWEST_MILLISECONDS, ending

SAMPLES = ROOT / "Tests/ApusContainersTests/Samples"
PER_PROCESS = 1000
LARGEST_SEED = 100_000
LARGEST_MODEL = 4000


class Stream(io.RawIOBase):
    """A file that cannot be sought, so that zipfile writes sizes behind the bytes."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.content += data
        return len(data)


def archive(target: io.IOBase, draw: random.Random) -> None:
    with zipfile.ZipFile(target, "w") as made:
        made.comment = draw.randbytes(draw.randrange(20))
        for index in range(1 + draw.randrange(5)):
            method = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            content = draw.choice([draw.randbytes(draw.randrange(300)), b"swift " * draw.randrange(2000)])
            info = zipfile.ZipInfo(f"folder/{index}.bin")
            info.compress_type = method
            info.extra = draw.choice([b"", b"\x35\xd9\x04\x00\x40\x00\x00\x00"])
            with made.open(info, "w", force_zip64=draw.random() < 0.3) as file:
                file.write(content)


def tensors(draw: random.Random) -> bytes:
    """A safetensors file, from its description."""
    types = {"F32": 4, "F64": 8, "BF16": 2, "I64": 8, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}} if draw.random() < 0.5 else {}
    data = b""
    for index in range(draw.randrange(6)):
        name = draw.choice(list(types))
        shape = [draw.randrange(5) for _ in range(draw.randrange(4))]
        part = bytes(draw.randrange(2) for _ in range(types[name] * math.prod(shape)))
        header[f"layer.{index}.weight"] = {
            "dtype": name,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def made_seeds(folder: Path) -> list[Path]:
    """Small containers of every form, the same every time."""
    draw = random.Random(1)
    for index in range(6):
        with open(folder / f"{index}.zip", "wb") as file:
            archive(file, draw)
        stream = Stream()
        archive(stream, draw)
        (folder / f"{index}-streamed.zip").write_bytes(stream.content)
        (folder / f"{index}.safetensors").write_bytes(tensors(draw))
        (folder / f"{index + 6}.safetensors").write_bytes(tensors(draw))
        (folder / f"{index}.gz").write_bytes(gzip.compress(draw.randbytes(50) * 9, 1 + index, mtime=index))
    arrays = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "é": np.asfortranarray(np.eye(3)), "s": np.array("a")}
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "deflated.npz", **arrays)
    made_models(folder)
    return sorted(folder.iterdir())


def made_models(folder: Path) -> None:
    """The smallest models of TestModels in each form of text."""
    paths = sorted((ROOT / "TestModels").glob("*.onnx"))
    for path in [path for path in paths if path.stat().st_size < LARGEST_MODEL][:8]:
        model = onnx.load(path, load_external_data=False)
        (folder / f"{path.stem}.textproto").write_text(text_format.MessageToString(model))
        (folder / f"{path.stem}.json").write_text(json_format.MessageToJson(model))
        (folder / f"{path.stem}.onnxtxt").write_text(onnx.printer.to_text(model))


class Fuzzing:
    """A series of mutants of containers, or with the command `importers` of models, dealt out to processes."""

    def __init__(
        self,
        driver: Path,
        seeds: list[Path],
        arguments: argparse.Namespace,
        command: str = "containers",
        megabytes: int = MEGABYTES,
        per_process: int = PER_PROCESS,
    ) -> None:
        self.driver, self.seeds, self.arguments = driver, seeds, arguments
        self.command, self.megabytes, self.per_process = command, megabytes, per_process
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.lock = threading.Lock()

    def run(self, job: int) -> None:
        count, jobs = self.arguments.count, self.arguments.jobs
        # Every process gets some, of few too.
        share = max(1, min(self.per_process, -(-count // jobs)))
        for start in range(job * share, count, jobs * share):
            number = min(share, count - start)
            case = CACHE / f"{self.command}-{self.arguments.seed}-{start}"
            seed = self.arguments.seed * 1_000_003 + start
            fault = self.run_some(case, seed, number)
            with self.lock:
                if fault:
                    self.faults.append(fault)
                    print(f"FAILED {fault}", flush=True)
                else:
                    case.unlink(missing_ok=True)

    def run_some(self, case: Path, seed: int, number: int) -> str:
        """What was wrong with some mutants; empty if nothing was."""
        command = [self.driver, self.command, case, seed, number, *self.seeds]
        try:
            ran = subprocess.run(
                list(map(str, command)), capture_output=True, text=True, errors="replace", env=ENVIRONMENT, timeout=1800
            )
        except subprocess.TimeoutExpired:
            return f"a broken file finds no end: {case}"
        if ran.returncode != 0:
            return f"a broken file ends the process: {ending(ran.returncode)}: {case}\n{ran.stderr[-1500:]}"
        report = json.loads(ran.stdout)
        with self.lock:
            self.outcomes.update(report["outcomes"])
        if report["slowest_ms"] > SLOWEST_MILLISECONDS:
            return f"a broken file took {report['slowest_ms']} ms: {case}.slow"
        if report["peak_rss_mb"] > self.megabytes:
            return f"broken files took {report['peak_rss_mb']} MB (seed {seed}, {number} of them)"
        return ""

    def finish(self) -> int:
        """Runs all, prints what became of them, and returns the status of the program."""
        threads = [threading.Thread(target=self.run, args=(job,)) for job in range(self.arguments.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for kind, number in sorted(self.outcomes.items()):
            print(f"  {number:7d}  {kind}")
        done = sum(self.outcomes.values())
        print(f"{done} passed, {len(self.faults)} failed, 0 skipped")
        return 1 if self.faults or not done else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many mutants (default 20000)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--seed", type=int, default=1, help="which series of mutants (default 1)")
    parser.add_argument("--driver", type=Path, help="a driver that is built already, with a sanitizer for example")
    parser.add_argument("seeds", nargs="*", type=Path, help="containers to mutate")
    arguments = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    driver = arguments.driver or fuzz_models.build()
    with tempfile.TemporaryDirectory() as folder:
        kinds = (".zip", ".npz", ".gz", ".safetensors", ".h5", ".hdf5", ".pkl", ".pt", ".pth", ".bin")
        samples = [
            path for path in sorted(SAMPLES.iterdir()) if path.suffix in kinds and path.stat().st_size < LARGEST_SEED
        ]
        seeds = [path.resolve() for path in arguments.seeds] or samples + made_seeds(Path(folder))
        return Fuzzing(driver.resolve(), seeds, arguments).finish()


if __name__ == "__main__":
    sys.exit(main())
