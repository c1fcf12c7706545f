#!/usr/bin/env python3
"""Holds the readers and writers of containers to what Python says: zip archives against zipfile, gzip against gzip,
.npz against NumPy, safetensors against the package of that name where it is installed (`pip install safetensors`),
random contents, both ways.

Usage: check_containers.py [--count N] [--seed N] [--driver ApusFuzz] [--apus PROGRAM]. Ends with the line
`N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fuzz_containers import Stream
from fuzz_models import ROOT

try:
    import safetensors
    import safetensors.numpy
except ImportError:
    safetensors = None

TYPES = "? i1 u1 <i2 <u2 <i4 <u4 <i8 <u8 <f2 <f4 <f8 <c8".split()
NAMES = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 complex64".split()


class Checks:
    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.driver, self.apus = arguments.driver.resolve(), arguments.apus.resolve()
        self.folder = folder

    def run(self, *command: str | Path) -> str:
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert ran.returncode == 0, f"{command}: {ran.returncode}: {ran.stderr}"
        return ran.stdout

    def repack(self, name: str) -> Path:
        self.run(self.driver, "repack", self.folder / name, self.folder / ("again-" + name))
        return self.folder / ("again-" + name)

    def inspect(self, name: str) -> dict:
        return json.loads(self.run(self.apus, "inspect", "--json", "--check", self.folder / name))

    # -- zip

    def fill(self, archive: zipfile.ZipFile, draw: random.Random) -> dict[str, bytes]:
        archive.comment = draw.randbytes(draw.choice([0, 3, 1000, 65535]))
        contents = {}
        for index in range(draw.randrange(12)):
            name = draw.choice(["", "a/", "雨燕/"]) + f"{index}" + draw.choice(["", ".bin", " é"])
            size = draw.choice([0, 1, 100, 70_000, 600_000])
            content = draw.choice([draw.randbytes(size), bytes(draw.choices(b"ab", k=size))])
            info = zipfile.ZipInfo(name, (2000 + index, 1, 1, 0, 0, 0))
            info.compress_type = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            info.create_system = draw.choice([0, 3])
            with archive.open(info, "w", force_zip64=draw.random() < 0.3) as file:
                for start in range(0, size, 50_000):
                    file.write(content[start : start + 50_000])
            contents[name] = content
        return contents

    def zip(self, draw: random.Random) -> None:
        stream = Stream()
        with zipfile.ZipFile(stream if draw.random() < 0.5 else self.folder / "a.zip", "w") as archive:
            contents = self.fill(archive, draw)
        if stream.content:
            (self.folder / "a.zip").write_bytes(stream.content)
        shown = self.inspect("a.zip")
        with zipfile.ZipFile(self.folder / "a.zip") as archive:
            listed = [(info.filename, info.file_size) for info in archive.infolist()]
            assert [(e["name"], e["bytes"]) for e in shown["entries"]] == listed
            whole = (self.folder / "a.zip").read_bytes()
            for entry in shown["entries"]:
                if "offset" in entry:
                    start = entry["offset"]
                    assert whole[start : start + entry["bytes"]] == contents[entry["name"]]
        with zipfile.ZipFile(self.repack("a.zip")) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == list(contents)
            for name, content in contents.items():
                assert archive.read(name) == content, name

    # -- gzip

    def gzip(self, draw: random.Random) -> None:
        content = [draw.randbytes(draw.choice([0, 1, 300_000])) + b"x" * draw.choice([0, 500_000]) for _ in range(3)]
        packed = b"".join(gzip.compress(part, draw.randrange(10)) for part in content)
        (self.folder / "a.gz").write_bytes(packed + bytes(draw.choice([0, 10])))
        assert self.repack("a.gz").read_bytes() == b"".join(content)

    # -- arrays

    def arrays(self, draw: random.Random) -> dict[str, np.ndarray]:
        arrays = {}
        for index in range(1 + draw.randrange(8)):
            shape = [draw.choice([0, 1, 2, 3, 7, 30]) for _ in range(draw.randrange(4))]
            dtype = np.dtype(draw.choice(TYPES))
            count = int(np.prod(shape, dtype=int))
            data = draw.randbytes(count * dtype.itemsize)
            if dtype == bool:
                data = bytes(byte & 1 for byte in data)
            arrays[f"/layer.{index}/weight"] = np.frombuffer(data, dtype).reshape(shape)
        return arrays

    def expect(self, entries: list[dict], arrays: dict[str, np.ndarray], suffix: str = "") -> None:
        found = {e["name"]: (e["type"], e["shape"]) for e in entries}
        names = dict(zip(map(np.dtype, TYPES), NAMES))
        assert found == {k + suffix: (names[v.dtype], list(v.shape)) for k, v in arrays.items()}, found

    def npz(self, draw: random.Random) -> None:
        arrays = self.arrays(draw)
        draw.choice([np.savez, np.savez_compressed])(self.folder / "a.npz", **arrays)
        self.expect(self.inspect("a.npz")["entries"], arrays, ".npy")

    def safetensors(self, draw: random.Random) -> None:
        arrays = self.arrays(draw)
        metadata = draw.choice([None, {"format": "pt", "é\n\"": "雨燕\\\t"}])
        safetensors.numpy.save_file(arrays, self.folder / "a.safetensors", metadata)
        shown = self.inspect("a.safetensors")
        self.expect(shown["entries"], arrays)
        assert shown["metadata"] == (metadata or {})
        again = self.repack("a.safetensors")
        found = safetensors.numpy.load_file(again)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
            assert found[name].tobytes() == array.tobytes(), name
        with safetensors.safe_open(again, "np") as file:
            assert file.metadata() == metadata

    def large(self, draw: random.Random) -> None:
        """Entries beyond 4 GB, in a file that is mostly a hole."""
        size = (1 << 32) + 7
        path = self.folder / "large.zip"
        with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
            info = zipfile.ZipInfo("zeros")
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as file:
                for _ in range(0, size, 1 << 22):
                    file.write(bytes(min(1 << 22, size - _)))
            archive.writestr("last", b"end")
        ran = subprocess.run([self.apus, "inspect", path], capture_output=True, text=True)
        path.unlink()
        assert ran.returncode == 1 and "at most 200 times" in ran.stderr, ran


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="files of each kind (default 20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--driver", type=Path, default=ROOT / ".build/release/ApusFuzz")
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus")
    arguments = parser.parse_args()
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(arguments, Path(folder))
        kinds: list[Callable[[random.Random], None]] = [checks.zip, checks.gzip, checks.npz, checks.safetensors]
        cases = [(kind, index) for kind in kinds for index in range(arguments.count)]
        for kind, index in [*cases, (checks.large, 0)]:
            if kind == checks.safetensors and safetensors is None:
                skipped += 1
                continue
            try:
                kind(random.Random(f"{kind.__name__} {arguments.seed} {index}"))
                passed += 1
            except Exception:
                failed += 1
                print(f"FAILED {kind.__name__} {index}")
                traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
