#!/usr/bin/env python3
"""Makes sample files with the libraries that own the formats: h5py and Keras, PyTorch and pickle, FlatBuffers
and onnxruntime. Beside each lies a .txt with what the library reads in it: one line a dataset or tensor (name, type,
shape, FNV-1a of the bytes in order, lowest byte first), or the values of a pickle.

usage: make_objects.py [FOLDER] [--random N]      N random HDF5 and PyTorch files more, for a run by hand with
                                                  APUS_CONTAINER_SAMPLES=FOLDER
Needs h5py and numpy; PyTorch, Keras (KERAS_BACKEND=torch) and flatbuffers are left out where they are missing.
"""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import struct
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def fnv(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def line(name: str, kind: str, shape, data: bytes) -> str:
    return f"{name}\t{kind}\t{','.join(map(str, shape))}\t{fnv(data)}"


# --- HDF5


def describe_hdf5(path: Path) -> str:
    import h5py

    lines, seen = [], set()

    def text(value) -> bytes:
        return value.encode() if isinstance(value, str) else bytes(value).rstrip(b"\0")

    def values(name, array):
        array = np.asarray(array)
        if array.dtype.kind in "OSU":
            joined = b"\n".join(text(item) for item in array.reshape(-1))
            return line(name, "string", array.shape, joined)
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        return line(name, array.dtype.newbyteorder("=").name, array.shape, little.tobytes())

    def visit(group, prefix):
        for key, value in sorted(group.attrs.items()):
            if not isinstance(value, h5py.Empty):
                lines.append(values(f"{prefix}@{key}", value))
        for key in group:
            child = group[key]
            identity = h5py.h5o.get_info(child.id).addr
            if identity in seen:
                continue
            seen.add(identity)
            if isinstance(child, h5py.Dataset):
                for name, value in sorted(child.attrs.items()):
                    if not isinstance(value, h5py.Empty):
                        lines.append(values(f"{prefix}{key}@{name}", value))
                if child.shape is not None:
                    lines.append(values(prefix + key, child[()]))
            elif isinstance(child, h5py.Group):
                visit(child, prefix + key + "/")

    with h5py.File(path, "r") as file:
        visit(file, "/")
    return "\n".join(sorted(lines)) + "\n"


def make_hdf5(folder: Path, random: int) -> None:
    import h5py

    def fill(file, latest: bool):
        for kind in ("i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", ">i8", "<u8", "<f2", ">f2", "<f4",
                     ">f4", "<f8", ">f8"):
            group = file.require_group("types" if kind[-2] != "f" else "floats" if kind[0] == "<" else "big")
            if latest and len(group) >= 8:
                group = file.require_group("more")
            group[kind.replace("<", "little-").replace(">", "big-")] = np.arange(-3, 9).reshape(3, 4).astype(kind)
        group = file.create_group("kinds")
        group["bool"] = np.array([True, False, True])
        group["scalar"] = np.float32(2.5)
        group["empty"] = np.zeros((0, 3), np.float32)
        group["texts"] = ["swift", "雨燕", "", "é"]
        group["fixed"] = np.array([b"ab", b"c", b""])
        group["never"] = h5py.Empty("f4")
        unset = group.create_dataset("unset", (5,), "i4", fillvalue=7)
        unset.attrs["note"] = "never written"
        file.attrs["model_config"] = '{"class": "Sequential"}' * 40
        file.attrs["layer_names"] = [b"dense", b"dense_1"]
        file.attrs["epoch"] = 12
        file.attrs["rates"] = np.array([0.1, 0.01])
        file.attrs["flag"] = True
        file["link"] = h5py.SoftLink("/kinds/scalar")

    def chunks(file):
        data = np.arange(7 * 11 * 5, dtype=np.float32).reshape(7, 11, 5)
        file.create_dataset("plain", data=data, chunks=(3, 4, 5))
        file.create_dataset("gzip", data=data, chunks=(3, 4, 2), compression="gzip")
        file.create_dataset("shuffled", data=data, chunks=(2, 11, 5), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("sums", data=data.astype("i2"), chunks=(7, 3, 3), fletcher32=True)
        file.create_dataset("growing", data=data, chunks=(2, 4, 3), maxshape=(None, 11, 5))
        file.create_dataset("wide", data=data, chunks=(2, 2, 3), maxshape=(7, None, 5), compression="gzip")
        file.create_dataset("one", data=data, chunks=(7, 11, 5), compression="gzip")
        holes = file.create_dataset("holes", (9, 9), "i4", chunks=(2, 2), fillvalue=-1)
        holes[4:6, 3:8] = 5

    def many(file):
        group = file.create_group("names")
        for index in range(300):
            group.create_dataset(f"n{index * 7919 % 1000:04}", data=np.int16(index))
        file.create_dataset("long", data=np.arange(4000), chunks=(7,), maxshape=(None,))

    def arrays(file):
        file.create_dataset("paged", data=np.arange(5000, dtype="u2"), chunks=(2,))
        file.create_dataset("extended", data=np.arange(9000, dtype="i4"), chunks=(3,), maxshape=(None,))
        file.create_dataset("zipped", data=np.arange(9000, dtype="i4"), chunks=(2,), maxshape=(None,),
                            compression="gzip")
        sparse = file.create_dataset("sparse", (60000,), "u1", chunks=(1,), maxshape=(None,), fillvalue=9)
        sparse[59990:] = 3
        late = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        late.set_chunk((4, 4))
        late.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple((10, 6))
        made = h5py.h5d.create(file.id, b"implicit", h5py.h5t.NATIVE_INT32, space, late)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(60, dtype=np.int32).reshape(10, 6))

    for name, latest, body in (
        ("types", False, lambda file: fill(file, False)), ("types-latest", True, lambda file: fill(file, True)),
        ("chunks", False, chunks), ("chunks-latest", True, chunks), ("many", False, many), ("arrays", True, arrays),
    ):
        with h5py.File(folder / f"{name}.h5", "w", libver="latest" if latest else "earliest") as file:
            body(file)
    with h5py.File(folder / "block.h5", "w", userblock_size=512) as file:
        file["x"] = np.arange(4)
    generator = np.random.default_rng(11)
    for index in range(random):
        with h5py.File(folder / f"random-{index:04}.h5", "w",
                       libver=["earliest", "v108", "v110", "latest"][index % 4]) as file:
            for number in range(generator.integers(1, 7)):
                shape = tuple(generator.integers(1, 14, generator.integers(1, 5)))
                kind = generator.choice(["i1", "<u2", ">i4", "<i8", "<f2", ">f4", "<f4", "<f8"])
                data = generator.integers(-100, 100, shape).astype(kind)
                options = {}
                if generator.integers(4):
                    options["chunks"] = tuple(int(generator.integers(1, size + 1)) for size in shape)
                    if generator.integers(2):
                        options["compression"] = "gzip"
                    options["shuffle"] = bool(generator.integers(2))
                    options["fletcher32"] = bool(generator.integers(2))
                    if generator.integers(2):
                        axis = int(generator.integers(len(shape)))
                        most = [int(size + generator.integers(0, 9)) for size in shape]
                        options["maxshape"] = tuple(None if a == axis and generator.integers(2) else size
                                                    for a, size in enumerate(most))
                file.require_group(f"g{number % 3}/inner").create_dataset(f"d{number}", data=data, **options)
    for path in sorted(folder.glob("*.h5")):
        path.with_suffix(".h5.txt").write_text(describe_hdf5(path))


def make_refused(folder: Path) -> None:
    """Files of which one part is refused: the name says which."""
    import h5py

    with h5py.File(folder / "refused.hdf5", "w", libver="latest") as file:
        file["compound"] = np.zeros(2, [("a", "i4"), ("b", "f4")])
        file["external"] = h5py.ExternalLink("other.h5", "/x")
        layout = h5py.VirtualLayout((4,), "i4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", (4,), "i4", external=[("other.raw", 0, 16)])
        file.create_dataset("lzf", data=np.arange(100), compression="lzf")
        dense = file.create_group("dense")
        for index in range(20):
            dense[f"x{index}"] = index
        file.create_dataset("tree", data=np.zeros((4, 4)), chunks=(2, 2), maxshape=(None, None))


def make_cycles(folder: Path) -> None:
    """A file of Keras whose groups are their own children, by links of both kinds; its weights are behind them."""
    import h5py

    with h5py.File(folder / "cycles.hdf5", "w", libver="latest") as file:
        weights = file.create_group("model_weights")
        dense = weights.create_group("dense")
        dense["dense"] = dense
        dense["up"] = weights
        dense["itself"] = h5py.SoftLink("/model_weights/dense/itself")
        dense["there"] = h5py.SoftLink("/model_weights/dense/back")
        dense["back"] = h5py.SoftLink("/model_weights/dense/there")
        dense["kernel:0"] = np.eye(3, 2, dtype=np.float32)
        dense["bias:0"] = h5py.SoftLink("/model_weights/dense/there")
        weights.attrs["layer_names"] = [b"dense"]
        dense.attrs["weight_names"] = [b"dense/dense/dense/kernel:0", b"there/bias:0"]
        layers = [
            {"class_name": "InputLayer", "config": {"batch_shape": [None, 3], "dtype": "float32", "name": "x"}},
            {"class_name": "Dense", "config": {"name": "dense", "units": 2, "activation": "linear", "use_bias": True}},
        ]
        config = {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "3.15.1"


def make_keras(folder: Path) -> None:
    try:
        import keras
    except ImportError:
        return print("no Keras here")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.layers.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, activation="relu"),
        keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(4),
    ])
    model.save(folder / "keras.h5")
    model.save_weights(folder / "keras.weights.h5")


# --- Pickles


def dump(value, depth=0) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "f" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "s" + value.encode("utf-8").hex()
    if isinstance(value, (bytes, bytearray)):
        return "b" + value.hex()
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ",".join(map(dump, value)) + ")"
    if isinstance(value, dict):
        return "{" + ",".join(dump(key) + ":" + dump(item) for key, item in value.items()) + "}"
    if isinstance(value, (set, frozenset)):
        return "<" + ",".join(sorted(map(dump, value))) + ">"
    raise TypeError(type(value))


def make_pickles(folder: Path) -> None:
    shared = [1, 2]
    value = {
        "numbers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**62, -(2**63)],
        "floats": [0.0, -0.0, 1.5, 1e300, float("inf")],
        "texts": ["", "swift", "雨燕", "a\nb\\c\u0080ÿ\U0001F426", "x" * 300],
        "bytes": [b"", b"\x00\xff", bytes(range(256)) * 2],
        "truths": [True, False, None],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "sets": [{1, 2, 3}, frozenset([4]), set()],
        "ordered": collections.OrderedDict(b=1, a=2),
        "shared": [shared, shared, (shared,)],
        7: {(1, "x"): -5},
    }
    for protocol in range(6):
        path = folder / f"protocol{protocol}.pkl"
        path.write_bytes(pickle.dumps(value, protocol))
        path.with_suffix(".pkl.txt").write_text(dump(value) + "\n")


def make_torch(folder: Path, random: int) -> None:
    try:
        import torch
    except ImportError:
        return print("no PyTorch here")
    torch.manual_seed(1)

    def network():
        return torch.nn.Sequential(
            collections.OrderedDict(conv=torch.nn.Conv2d(1, 3, 3), norm=torch.nn.BatchNorm2d(3),
                                    head=torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(3, 4))))

    def describe(tensors: dict) -> str:
        lines = []
        for name, tensor in tensors.items():
            tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
            data = bytes(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()) if tensor.numel() else b""
            kind = str(tensor.dtype).removeprefix("torch.").replace("float8_", "float8")
            lines.append(line(name, kind, tensor.shape, data))
        return "\n".join(sorted(lines)) + "\n"

    base = torch.arange(24, dtype=torch.float32)
    kinds = {str(kind)[6:]: torch.arange(6).reshape(2, 3).to(kind) for kind in (
        torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
        torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16)}
    views = {"base": base, "rows": base.reshape(4, 6)[1:3], "turned": base.reshape(4, 6).t(),
             "steps": base[1::5], "repeated": base[:1].expand(3, 2), "scalar": base[7], "empty": base[:0]}
    state = network().state_dict()
    deep = {"epoch": 3, "model": state, "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "groups": [1, 2]}}
    flat = {f"model/{key}": value for key, value in state.items()} | {"optimizer/state/0/step": torch.tensor(5.0)}
    module = network()
    files = {
        "state": (state, state), "kinds": (kinds, kinds), "views": (views, views), "deep": (deep, flat),
        "module": (module, module.state_dict()),
        "parameter": ({"p": torch.nn.Parameter(base.reshape(2, 12))}, {"p": base.reshape(2, 12)}),
    }
    for index in range(random):
        some = {}
        for number in range(int(torch.randint(1, 6, ()))):
            block = torch.randn(400)
            rank = int(torch.randint(0, 4, ()))
            shape = [int(torch.randint(1, 5, ())) for _ in range(rank)]
            strides = [int(torch.randint(0, 9, ())) for _ in range(rank)]
            some[f"t{number}"] = torch.as_strided(block, shape, strides, int(torch.randint(0, 200, ())))
        files[f"random-{index:04}"] = (some, some)
    for name, (value, tensors) in files.items():
        for suffix in ("pt", "pth"):
            path = folder / f"{name}.{suffix}"
            torch.save(value, path, _use_new_zipfile_serialization=suffix == "pt")
            Path(f"{path}.txt").write_text(describe(tensors))


# --- FlatBuffers


def make_flat(folder: Path) -> None:
    try:
        import flatbuffers
    except ImportError:
        return print("no FlatBuffers here")
    builder = flatbuffers.Builder(64)
    name, other = builder.CreateString("雨燕"), builder.CreateString("swift")
    numbers = builder.CreateNumpyVector(np.arange(-2, 3, dtype=np.int32))
    data = builder.CreateByteVector(bytes(range(200)))
    builder.StartObject(2)
    builder.PrependInt64Slot(0, -(2**40), 0)
    builder.PrependFloat64Slot(1, 0.25, 0)
    child = builder.EndObject()
    builder.StartObject(2)
    builder.PrependInt64Slot(0, 9, 0)
    second = builder.EndObject()
    builder.StartVector(4, 2, 4)
    builder.PrependUOffsetTRelative(second)
    builder.PrependUOffsetTRelative(child)
    children = builder.EndVector()
    builder.StartVector(4, 2, 4)
    builder.PrependUOffsetTRelative(other)
    builder.PrependUOffsetTRelative(name)
    names = builder.EndVector()
    builder.StartObject(12)
    builder.PrependInt8Slot(0, -5, 0)
    builder.PrependUint16Slot(1, 65535, 0)
    builder.PrependFloat32Slot(2, 1.5, 0)
    builder.PrependBoolSlot(3, True, False)
    builder.PrependUOffsetTRelativeSlot(4, name, 0)
    builder.PrependUOffsetTRelativeSlot(5, numbers, 0)
    builder.PrependUOffsetTRelativeSlot(6, data, 0)
    builder.PrependUint8Slot(7, 3, 0)
    builder.PrependUOffsetTRelativeSlot(8, child, 0)
    builder.PrependUOffsetTRelativeSlot(9, children, 0)
    builder.PrependUOffsetTRelativeSlot(11, names, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"APTS")
    (folder / "flat.bin").write_bytes(bytes(builder.Output()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    parser.add_argument("--random", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    make_keras(options.folder)
    make_hdf5(options.folder, options.random)
    make_refused(options.folder)
    make_cycles(options.folder)
    make_pickles(options.folder)
    make_torch(options.folder, options.random)
    make_flat(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
