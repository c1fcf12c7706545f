#!/usr/bin/env python3
"""Makes the sample files of ApusContainersTests: arrays with NumPy, a traced module with torch, the others
with zipfile, gzip and safetensors.

Run it with a python that has numpy, ml_dtypes, safetensors and torch; it writes beside itself. The results are
committed.
"""

import gzip
import io
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np

HERE = Path(__file__).parent


def arrays() -> dict[str, np.ndarray]:
    grid = np.arange(24).reshape(2, 3, 4)
    result = {f"{np.dtype(t).name}": grid.astype(t) for t in "bBhHiIlLefdFD"}
    result["bool"] = grid % 3 == 0
    result["unicode"] = np.array([["swift", "雨燕"], ["", "é"]])
    result["bytes"] = np.array([b"ab", b"c"])
    result["fortran"] = np.asfortranarray(grid.astype(np.float32))
    result["big"] = grid.astype(">i4")
    result["big-complex"] = (grid + 1j).astype(">c8")
    result["big-unicode"] = np.array(["swift", "雨燕"]).astype(">U5")
    result["scalar"] = np.array(2.5)
    result["empty"] = np.zeros((0, 3), np.float32)
    result["bfloat16"] = np.array([1, -2, 0.5], ml_dtypes.bfloat16)
    result["int4"] = np.array([1, -2, 7], ml_dtypes.int4)
    return result


class Stream(io.RawIOBase):
    """A file that cannot be sought, so that zipfile writes sizes behind the bytes."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.content += data
        return len(data)


TEXT = b"the quick brown swift " * 200
NOISE = np.random.default_rng(1).integers(0, 256, 700, np.uint8).tobytes()


def fill(archive: zipfile.ZipFile) -> None:
    archive.comment = b"what others say of it: PK"
    archive.writestr("folder/", b"")
    archive.writestr("folder/text.txt", TEXT, zipfile.ZIP_DEFLATED)
    archive.writestr("noise.bin", NOISE, zipfile.ZIP_STORED)
    archive.writestr("empty", b"", zipfile.ZIP_DEFLATED)
    archive.writestr("\u96e8\u71d5.json", b"{}", zipfile.ZIP_STORED)
    with archive.open("large.bin", "w", force_zip64=True) as file:
        file.write(NOISE[:100])


def archives() -> None:
    with zipfile.ZipFile(HERE / "plain.zip", "w") as archive:
        fill(archive)
    stream = Stream()
    with zipfile.ZipFile(stream, "w") as archive:
        fill(archive)
    (HERE / "streamed.zip").write_bytes(stream.content)


def weights() -> None:
    from safetensors import TensorSpec, serialize

    arrays = {
        "a.weight": ("float32", np.arange(6, dtype=np.float32).reshape(2, 3)),
        "a.bias": ("bfloat16", np.array([1, -2, 0.5], ml_dtypes.bfloat16)),
        "codes": ("int64", np.array([-1, 1 << 40])),
        "small": ("float8_e4m3fn", np.array([1, -0.5, 448, 2], ml_dtypes.float8_e4m3fn)),
        "half": ("float16", np.array(2.5, np.float16)),
        "flags": ("bool", np.array([True, False, True])),
        "none": ("float64", np.zeros((0, 4))),
    }
    specs = {
        name: TensorSpec(dtype=type_, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, (type_, array) in arrays.items()
    }
    content = serialize(specs, metadata={"format": "pt", "said": "\u96e8\u71d5"})
    (HERE / "weights.safetensors").write_bytes(bytes(content))


def traced() -> None:
    import torch

    class M(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torch.jit.trace(M(), torch.zeros(2)).save(HERE / "traced.pt")


def main() -> None:
    np.savez(HERE / "arrays.npz", **arrays())
    np.savez_compressed(
        HERE / "compressed.npz",
        **arrays(),
        zeros=np.zeros(100_000),
        noise=np.random.default_rng(0).integers(0, 256, 5000, np.uint8),
    )
    np.lib.format.write_array((HERE / "version2.npy").open("wb"), np.arange(3), version=(2, 0))
    archives()
    first = gzip.compress(TEXT, mtime=0)
    named = io.BytesIO()
    with gzip.GzipFile("noise.bin", "wb", fileobj=named, mtime=1) as file:
        file.write(NOISE)
    (HERE / "text.gz").write_bytes(first + named.getvalue() + bytes(512))
    weights()
    traced()


if __name__ == "__main__":
    main()
