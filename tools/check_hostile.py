#!/usr/bin/env python3
"""Files that an enemy would make by hand, of every format of models: bombs, paths and links in archives, pickles that
call, graphs that call themselves, extents that overflow, texts that are deep. `apus check` must end each with an error
that says what is wrong, or with a result, within ten seconds and a gigabyte; and nothing of a file may be run.

Needs the fixtures of ApusFormatsTests, NumPy and flatbuffers. Ends with the line `N passed, N failed, N skipped`.

    tools/check_hostile.py --apus .build/release/apus [--only PART…]
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import pickle
import re
import resource
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, Callable

import flatbuffers

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "Tests/ApusFormatsTests/Fixtures"
SECONDS, MEGABYTES = 10, 1024
# Without a sanitizer, what a process may map.
ADDRESS_SPACE = 16 << 30
CASES: dict[str, tuple[str, str, Callable[[], bytes]]] = {}
Entries = dict[str, bytes]


def case(ending: str, expected: str):
    """Registers a file with that ending whose check must say `expected` (a pattern), "" if it may be read."""

    def register(function: Callable[[], bytes]) -> Callable[[], bytes]:
        CASES[function.__name__] = (ending, expected, function)
        return function

    return register


# MARK: Archives


def unpack(content: bytes) -> Entries:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(entries: Entries | list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return target.getvalue()


def keras() -> Entries:
    with zipfile.ZipFile(FIXTURES / "keras/keras3.zip") as archive:
        return unpack(archive.read("dense3.keras"))


def program() -> Entries:
    return unpack((FIXTURES / "Torch/convolutional_dynamic.pt2").read_bytes())


def weights_of(entries: Entries) -> str:
    """The name of the largest entry that is no text."""
    return max((name for name in entries if not name.endswith(".json")), key=lambda name: len(entries[name]))


def bomb(entries: Entries) -> bytes:
    entries[weights_of(entries)] = bytes(1 << 29)
    return pack(entries, zipfile.ZIP_DEFLATED)


def renamed(entries: Entries, name: str) -> bytes:
    old = weights_of(entries)
    return pack({name if key == old else key: content for key, content in entries.items()})


def linked(entries: Entries) -> bytes:
    """An entry that is a symbolic link."""
    old = weights_of(entries)
    link = zipfile.ZipInfo(old)
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return pack([(link, b"/etc/passwd") if key == old else (key, content) for key, content in entries.items()])


def overlapping(entries: Entries) -> bytes:
    """The last entry of the directory lies where the first one does."""
    content = bytearray(pack(entries))
    last, first = content.rfind(b"PK\1\2"), content.find(b"PK\1\2")
    content[last + 42 : last + 46] = content[first + 42 : first + 46]
    return bytes(content)


def twice(entries: Entries) -> bytes:
    name = next(iter(entries))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pack([*entries.items(), (name, b"{}")])


for kind, ending, make in [("keras", ".keras", keras), ("program", ".pt2", program)]:
    CASES |= {
        f"{kind}_bomb": (ending, "times", lambda make=make: bomb(make())),
        f"{kind}_path_up": (ending, "path", lambda make=make: renamed(make(), "../../weights")),
        f"{kind}_path_absolute": (ending, "path", lambda make=make: renamed(make(), "/tmp/weights")),
        f"{kind}_link": (ending, "link", lambda make=make: linked(make())),
        f"{kind}_overlap": (ending, "overlap|differ|header", lambda make=make: overlapping(make())),
        f"{kind}_twice": (ending, "two entries", lambda make=make: twice(make())),
    }


# MARK: Keras


def keras_with(config: Any) -> bytes:
    entries = keras()
    entries["config.json"] = config if isinstance(config, bytes) else json.dumps(config).encode()
    return pack(entries)


def layer(kind: str, name: str, **config: Any) -> dict:
    return {"class_name": kind, "module": "keras.layers", "config": {"name": name, **config}}


def sequential(*layers: dict) -> dict:
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": list(layers)}}


def entry(*extents: int | None) -> dict:
    return layer("InputLayer", "x", batch_shape=[None, *extents], dtype="float32")


@case(".keras", "deep")
def keras_nested_lists() -> bytes:
    return keras_with(b'{"class_name": "Sequential", "config": ' + b"[" * 10_000 + b"]" * 10_000 + b"}")


@case(".keras", "deep")
def keras_nested_models() -> bytes:
    text = b'{"class_name":"Sequential","config":{"name":"s","layers":['
    return keras_with(text * 10_000 + b"]}}" * 10_000)


@case(".keras", "deep")
def keras_nested_wrappers() -> bytes:
    wrapped = layer("ReLU", "r")
    for level in range(400):
        wrapped = layer("TimeDistributed", f"t{level}", layer=wrapped)
    return keras_with(sequential(entry(*[2] * 40), wrapped))


@case(".keras", "never decoded or run")
def keras_lambda() -> bytes:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None, "closure": None}}
    return keras_with(sequential(entry(4), layer("Lambda", "evil", function=code)))


@case(".keras", ".")
def keras_extents_that_overflow() -> bytes:
    return keras_with(sequential(entry(1 << 40, 1 << 40, 1 << 40), layer("Flatten", "f")))


@case(".keras", ".")
def keras_many_units() -> bytes:
    return keras_with(sequential(entry(4), layer("Dense", "d", units=(1 << 62) - 1, activation="linear")))


@case(".keras", ".")
def keras_huge_resize() -> bytes:
    return keras_with(sequential(entry(4, 4, 3), layer("Resizing", "r", height=1 << 62, width=1 << 62)))


@case(".keras", ".")
def keras_huge_padding() -> bytes:
    sizes = [[(1 << 63) - 1, (1 << 63) - 1], [-5, -5]]
    return keras_with(sequential(entry(4, 4, 3), layer("ZeroPadding2D", "p", padding=sizes)))


@case(".keras", ".")
def keras_repeats_without_end() -> bytes:
    return keras_with(sequential(entry(4), layer("RepeatVector", "r", n=(1 << 63) - 1), layer("Flatten", "f")))


def history(name: str) -> dict:
    return {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "keras_history": [name, 0, 0]}}


def functional(*links: tuple[str, str]) -> bytes:
    """ReLUs by name, each behind another one."""
    layers = [entry(4) | {"name": "x", "inbound_nodes": []}]
    for name, source in links:
        made = layer("ReLU", name) | {"name": name, "inbound_nodes": [{"args": [history(source)], "kwargs": {}}]}
        layers.append(made)
    config = {"name": "f", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [[links[-1][0], 0, 0]]}
    return keras_with({"class_name": "Functional", "module": "keras", "config": config})


@case(".keras", ".")
def keras_layer_that_reads_itself() -> bytes:
    return functional(("a", "a"))


@case(".keras", ".")
def keras_layers_in_a_circle() -> bytes:
    return functional(("a", "b"), ("b", "a"))


@case(".keras", ".")
def keras_layers_with_one_name() -> bytes:
    return functional(("a", "x"), ("a", "a"), ("b", "a"))


@case(".keras", "become more than|deep")
def keras_models_that_double() -> bytes:
    """Models that call the model inside of them twice: 2^24 layers."""

    def nested(level: int) -> dict:
        def outer(kind: str, name: str, config: dict, sources: list[str]) -> dict:
            calls = [{"args": [history(source)], "kwargs": {}} for source in sources]
            return {"class_name": kind, "module": "keras", "name": name, "config": config, "inbound_nodes": calls}

        first = entry(4) | {"name": "x", "inbound_nodes": []}
        if level == 0:
            last = outer("ReLU", "r", {"name": "r"}, ["x"])
            layers, end = [first, last], ["r", 0, 0]
        else:
            inner = nested(level - 1)
            layers = [first, outer("Functional", "m", inner["config"] | {"name": "m"}, ["x", "m"])]
            # The second call: Keras 3 counts the making of a model in its outputs.
            end = ["m", 2, 0]
        config = {"name": "f", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [end]}
        return {"class_name": "Functional", "module": "keras", "config": config}

    return keras_with(nested(24))


@case(".h5", "soft links lead to one another")
def hdf5_links_in_a_circle() -> bytes:
    return (ROOT / "Tests/ApusContainersTests/Samples/cycles.hdf5").read_bytes()


# MARK: PyTorch


def program_with(change: Callable[[dict], None]) -> bytes:
    entries = program()
    name = next(name for name in entries if name.endswith("models/model.json"))
    content = json.loads(entries[name])
    change(content)
    entries[name] = json.dumps(content).encode()
    return pack(entries)


def graph(content: dict) -> dict:
    return content["graph_module"]["graph"]


@case(".pt2", "is taken")
def program_value_twice() -> bytes:
    def change(content: dict) -> None:
        nodes = graph(content)["nodes"]
        nodes[1]["outputs"] = nodes[0]["outputs"]

    return program_with(change)


@case(".pt2", "not known|before|computed")
def program_use_before_definition() -> bytes:
    return program_with(lambda content: graph(content)["nodes"].reverse())


@case(".pt2", "deep")
def program_nested() -> bytes:
    entries = program()
    name = next(name for name in entries if name.endswith("models/model.json"))
    entries[name] = b'{"graph_module":' * 10_000 + b"1" + b"}" * 10_000
    return pack(entries)


@case(".pt2", "deep|graph")
def program_graphs_in_graphs() -> bytes:
    inner = '{"inputs":[],"outputs":[],"nodes":[],"tensor_values":{},"sym_int_values":{},"sym_bool_values":{}}'
    for _ in range(300):
        node = (
            '{"target":"torch.ops.higher_order.cond","inputs":[{"name":"","arg":{"as_bool":true},"kind":1},'
            '{"name":"","arg":{"as_graph":{"name":"t","graph":INNER}},"kind":1}],"outputs":[],"metadata":{}}'
        ).replace("INNER", inner)
        inner = (
            '{"inputs":[],"outputs":[],"nodes":[NODE],"tensor_values":{},"sym_int_values":{},"sym_bool_values":{}}'
        ).replace("NODE", node)
    entries = program()
    name = next(name for name in entries if name.endswith("models/model.json"))
    content = json.loads(entries[name])
    content["graph_module"]["graph"]["nodes"] = "HERE"
    entries[name] = json.dumps(content).replace('"HERE"', f"[{node}]").encode()
    return pack(entries)


@case(".pt2", ".")
def program_extents_that_overflow() -> bytes:
    def change(content: dict) -> None:
        for value in graph(content)["tensor_values"].values():
            value["sizes"] = [{"as_int": 1 << 62}] * 4

    return program_with(change)


def program_of_one(target: str, sizes: list[int], **arguments: int | list[int]) -> bytes:
    """The first node is another one, of an input with these sizes, by either name of operands."""

    def change(content: dict) -> None:
        inner = graph(content)
        given = next(value["name"] for each in inner["inputs"] for value in each.values() if value["name"] == "x")
        inner["tensor_values"][given]["sizes"] = [{"as_int": size} for size in sizes]
        node = inner["nodes"][0]
        node["target"] = f"torch.ops.aten.{target}"
        node["inputs"] = [
            {"name": name, "arg": {"as_tensor": {"name": given}}, "kind": 1} for name in ("self", "input")
        ] + [
            {"name": name, "arg": {"as_ints" if isinstance(value, list) else "as_int": value}, "kind": 1}
            for name, value in arguments.items()
        ]

    return program_with(change)


# What a rule makes of an extent, or of a product of two, is bounded before it is made.
FAR = 1 << 40
CASES |= {
    f"program_far_{target.split('.')[0]}": (
        ".pt2", ".", functools.partial(program_of_one, target, sizes, **arguments)
    )
    for target, sizes, arguments in [
        ("diag_embed.default", [1, FAR], {}), ("unbind.int", [1, FAR], {"dim": 1}),
        ("adaptive_avg_pool1d.default", [1, 1, FAR << 10], {"output_size": [4095]}),
        ("tril_indices.default", [1], {"row": FAR, "col": FAR}), ("eye.m", [1], {"n": FAR, "m": FAR}),
        ("unfold.default", [1, FAR], {"dimension": 1, "size": -(1 << 62), "step": 1}),
        ("im2col.default", [1, 1, 9, 9],
         {"kernel_size": [FAR, FAR], "dilation": [FAR, FAR], "padding": [0, 0], "stride": [1, 1]}),
        ("layer_norm.default", [1, FAR], {"normalized_shape": [FAR]}),
        ("repeat_interleave.self_int", [1, FAR], {"repeats": FAR, "dim": 1}),
        ("narrow.default", [1, 9], {"dim": 1, "start": 1 << 62, "length": 1 << 62}),
        ("triu_indices.default", [1], {"row": 3, "col": 3, "offset": -(1 << 63)}),
        ("var.default", [FAR, FAR], {}),
    ]
}  # fmt: skip


def weight_metas(entries: Entries) -> tuple[str, dict]:
    name = next(name for name in entries if name.endswith("model_weights_config.json"))
    return name, json.loads(entries[name])


def program_weights(change: Callable[[dict], None]) -> bytes:
    entries = program()
    name, content = weight_metas(entries)
    for value in content["config"].values():
        change(value)
    entries[name] = json.dumps(content).encode()
    return pack(entries)


@case(".pt2", ".")
def program_weight_sizes() -> bytes:
    return program_weights(lambda value: value["tensor_meta"].update(sizes=[{"as_int": 1 << 62}, {"as_int": 1 << 62}]))


@case(".pt2", ".")
def program_weight_strides() -> bytes:
    def change(value: dict) -> None:
        value["tensor_meta"]["strides"] = [{"as_int": -(1 << 62)}] * len(value["tensor_meta"]["sizes"])

    return program_weights(change)


@case(".pt2", ".")
def program_weight_offset() -> bytes:
    return program_weights(lambda value: value["tensor_meta"].update(storage_offset={"as_int": (1 << 63) - 1}))


@case(".pt2", ".")
def program_weight_of_zero_strides() -> bytes:
    """A few bytes that stand for a terabyte."""

    def change(value: dict) -> None:
        meta = value["tensor_meta"]
        meta["sizes"] = [{"as_int": 1 << 10}] * 4
        meta["strides"] = [{"as_int": 0}] * 4

    return program_weights(change)


@case(".pt2", "")
def program_weights_that_are_one() -> bytes:
    """All weights of one shape in one entry, as tied ones are."""
    entries = program()
    name, content = weight_metas(entries)
    seen: dict[str, str] = {}
    for value in content["config"].values():
        value["path_name"] = seen.setdefault(json.dumps(value["tensor_meta"]["sizes"]), value["path_name"])
    entries[name] = json.dumps(content).encode()
    return pack(entries)


@case(".pt2", ".")
def program_weight_elsewhere() -> bytes:
    return program_weights(lambda value: value.update(path_name="../../../../etc/passwd"))


def program_symbols(text: str) -> bytes:
    def change(content: dict) -> None:
        for value in graph(content)["tensor_values"].values():
            value["sizes"] = [{"as_expr": {"expr_str": text, "hint": None}} for _ in value["sizes"]]

    return program_with(change)


@case(".pt2", ".")
def program_deep_expression() -> bytes:
    return program_symbols("(" * 100_000 + "s0" + ")" * 100_000)


@case(".pt2", ".")
def program_power_of_powers() -> bytes:
    return program_symbols("2**2**2**2**2**2**64")


@case(".pt2", ".")
def program_large_polynomial() -> bytes:
    return program_symbols("*".join(f"(s0 + s1 + s2 + {index})" for index in range(64)))


class Call:
    """What pickles as a call of os.system."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.canary}",)


CANARY = Path(tempfile.gettempdir()) / f"apus-canary-{os.getpid()}"


def module(content: bytes) -> bytes:
    return pack({"m/data.pkl": content, "m/byteorder": b"little", "m/version": b"3\n", "m/data/0": bytes(64)})


for protocol in range(6):
    CASES |= {
        f"pickle_call_{protocol}": (
            ".pt", "posix.system, which is never run",
            lambda protocol=protocol: module(pickle.dumps(Call(CANARY), protocol)),
        ),
        f"pickle_call_inside_{protocol}": (
            ".pth", "posix.system, which is never run",
            lambda protocol=protocol: module(pickle.dumps({"weight": Call(CANARY), "x": 1}, protocol)),
        ),
    }  # fmt: skip


@case(".pt", ".")
def pickle_eval() -> bytes:
    return module(b"cbuiltins\neval\n(S'__import__(\"os\").system(\"touch " + str(CANARY).encode() + b"\")'\ntR.")


@case(".pt", ".")
def pickle_of_lists_in_lists() -> bytes:
    return module(b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".")


@case(".pt", ".")
def pickle_that_doubles() -> bytes:
    """Tuples of what came before, twice: 2^60 objects if each were walked."""
    body = b"\x80\x02K\x01"
    for index in range(60):
        body += b"q" + bytes([index]) + b"h" + bytes([index]) + b"\x86"
    return module(body + b".")


@case(".pt", ".")
def pickle_large_memo() -> bytes:
    return module(b"\x80\x02]r" + struct.pack("<I", 0xFFFF_FFF0) + b".")


@case(".pt", "become more than|deep")
def module_of_modules_that_double() -> bytes:
    """Sequentials that hold another one twice: 2^40 layers."""

    def sequential_of(inner: bytes) -> bytes:
        # An object without arguments, then the dictionary of its attributes.
        return b"ctorch.nn.modules.container\nSequential\n)\x81}X\x08\0\0\0_modules}(" + inner + b"usb"

    made = b"X\x01\0\0\x000ctorch.nn.modules.activation\nReLU\n)\x81}X\x08\0\0\0_modules}sb"
    for level in range(40):
        memo = bytes([level])
        inner = sequential_of(made) + b"q" + memo
        made = b"X\x01\0\0\x000" + inner + b"X\x01\0\0\x001h" + memo
    return module(b"\x80\x02" + sequential_of(made) + b".")


# MARK: FlatBuffers


def flat(root: dict[int, Any], identifier: bytes) -> bytes:
    """A FlatBuffer of dictionaries (tables), lists (vectors), texts and numbers (of 4 bytes; pairs: width, number).
    What is there twice is written once."""
    builder = flatbuffers.Builder(1 << 16)
    made: dict[int, int] = {}
    kept: list[Any] = []

    def write(value: Any) -> int:
        if id(value) in made:
            return made[id(value)]
        if isinstance(value, str):
            place = builder.CreateString(value)
        elif isinstance(value, bytes):
            place = builder.CreateByteVector(value)
        elif isinstance(value, list) and value and isinstance(value[0], int):
            builder.StartVector(4, len(value), 4)
            for number in reversed(value):
                builder.PrependInt32(number)
            place = builder.EndVector()
        elif isinstance(value, list):
            places = [write(element) for element in value]
            builder.StartVector(4, len(places), 4)
            for element in reversed(places):
                builder.PrependUOffsetTRelative(element)
            place = builder.EndVector()
        else:
            fields = {
                key: field if isinstance(field, (int, tuple)) else write(field) for key, field in value.items()
            }
            builder.StartObject(max(fields, default=-1) + 1)
            for key, field in fields.items():
                if isinstance(value[key], tuple):
                    width, number = value[key]
                    {1: builder.PrependInt8Slot, 8: builder.PrependInt64Slot}[width](key, number, None)
                elif isinstance(value[key], int):
                    builder.PrependInt32Slot(key, field, None)
                else:
                    builder.PrependUOffsetTRelativeSlot(key, field, 0)
            place = builder.EndObject()
        kept.append(value)
        made[id(value)] = place
        return place

    builder.Finish(write(root), file_identifier=identifier)
    return bytes(builder.Output())


# Numbers of operators and of the types of their options in the schema of TensorFlow Lite.
ABS, NOT, WHILE, IF, CALL, CALL_ONCE, RNN = 101, 87, 119, 118, 31, 129, 24
OPTIONS = {WHILE: 93, IF: 92, CALL: 16, CALL_ONCE: 103}


def lite(*graphs: list[tuple[int, dict[int, int]]], shape: list[int] | None = None, kind: int = 6) -> bytes:
    """A model whose graphs are chains of operators from one tensor to the next, with options that name graphs. Tensors
    are scalars of bool unless it is said."""
    codes = sorted({code for nodes in graphs for code, _ in nodes})
    subgraphs = []
    for nodes in graphs:
        tensors = [{0: shape or [], 1: (1, kind), 2: 0, 3: f"t{index}"} for index in range(len(nodes) + 1)]
        operators = []
        for index, (code, options) in enumerate(nodes):
            node: dict[int, Any] = {0: codes.index(code), 1: [index] * (2 if code == IF else 1), 2: [index + 1]}
            if code in OPTIONS:
                node |= {3: (1, OPTIONS[code]), 4: options}
            operators.append(node)
        subgraphs.append({0: tensors, 1: [0], 2: [len(nodes)], 3: operators, 4: f"g{len(subgraphs)}"})
    return flat({0: 3, 1: [{3: code} for code in codes], 2: subgraphs, 4: [{}]}, b"TFL3")


@case(".tflite", "")
def lite_plain() -> bytes:
    return lite([(ABS, {}), (ABS, {})], shape=[2], kind=0)


@case(".tflite", "deep|itself|call")
def lite_loop_of_itself() -> bytes:
    return lite([(WHILE, {0: 1, 1: 2})], [(NOT, {})], [(WHILE, {0: 1, 1: 2})])


@case(".tflite", "subgraph|itself|call")
def lite_main_that_calls_itself() -> bytes:
    return lite([(CALL, {0: 0})])


@case(".tflite", "deep|itself|call")
def lite_calls_in_a_circle() -> bytes:
    return lite([(CALL, {0: 1})], [(CALL, {0: 2})], [(CALL, {0: 1})])


@case(".tflite", "deep|itself|call")
def lite_branches_of_themselves() -> bytes:
    return lite([(IF, {0: 1, 1: 1})], [(IF, {0: 1, 1: 1})])


def doubling(code: int, levels: int) -> bytes:
    """2^levels layers when what is called is put in place."""
    options = {CALL: lambda graph: {0: graph}, IF: lambda graph: {0: graph, 1: graph}}[code]
    chain = [[(code, options(level + 1)), (code, options(level + 1))] for level in range(levels)]
    return lite(*chain, [(NOT, {})])


CASES |= {
    "lite_calls_that_double": (".tflite", "become more than", lambda: doubling(CALL, 24)),
    "lite_branches_that_double": (".tflite", "become more than", lambda: doubling(IF, 14)),
    "lite_deep_calls_that_double": (".tflite", "deep", lambda: doubling(CALL, 40)),
}


@case(".tflite", ".")
def lite_extents_that_overflow() -> bytes:
    return lite([(ABS, {})], shape=[0x7FFF_FFFF] * 6, kind=0)


@case(".tflite", "")
def lite_huge_extents() -> bytes:
    return lite([(ABS, {})], shape=[0x7FFF_FFFF, 4], kind=0)


@case(".tflite", "too large")
def lite_bias_of_many() -> bytes:
    """A recurrent layer whose bias is an input of 2^31 numbers."""
    extents = [[1, 4], [2, 4], [2, 2], [0x7FFF_FFFF], [1, 2], [1, 2]]
    tensors = [{0: shape, 1: (1, 0), 2: 0, 3: f"t{index}"} for index, shape in enumerate(extents)]
    graph = {0: tensors, 1: [0, 1, 2, 3, 4], 2: [5], 3: [{0: 0, 1: [0, 1, 2, 3, 4], 2: [5]}], 4: "g"}
    return flat({0: 3, 1: [{3: RNN}], 2: [graph], 4: [{}]}, b"TFL3")


@case(".tflite", "too many offsets")
def lite_tensors_that_are_one() -> bytes:
    """Two million entries of a vector that lead to one table with a long name."""
    tensor = {0: [2], 1: (1, 0), 2: 0, 3: "t" * 1_000_000}
    graph = {0: [tensor] * 1_000_000, 1: [0], 2: [0], 3: [], 4: "g"}
    return flat({0: 3, 1: [], 2: [graph], 4: [{}]}, b"TFL3")


def runtime(graph: dict[int, Any]) -> bytes:
    opset = {0: "", 1: (8, 21)}
    return flat({0: "6", 1: {0: (8, 10), 1: [opset], 7: graph}}, b"ORTM")


@case(".ort", "too many offsets|deep")
def runtime_graphs_that_double() -> bytes:
    """2^30 nodes: each graph is that of two attributes of the graph around it."""
    graph: dict[int, Any] = {2: [{5: "Abs", 8: ["x"], 9: ["y"]}], 6: ["y"]}
    for _ in range(25):
        branches = [{0: name, 2: 5, 7: graph} for name in ("then_branch", "else_branch")]
        graph = {2: [{5: "If", 8: ["x"], 9: ["y"], 10: branches}], 6: ["y"]}
    return runtime(graph)


@case(".ort", "too many offsets")
def runtime_names_that_are_one() -> bytes:
    name = "x" * 1_000_000
    return runtime({2: [{5: "Sum", 8: [name] * 500_000, 9: ["y"]}], 5: [name], 6: ["y"]})


@case(".ort", "cycle|circle|computed")
def runtime_nodes_in_a_circle() -> bytes:
    return runtime({2: [{5: "Abs", 8: ["a"], 9: ["b"]}, {5: "Abs", 8: ["b"], 9: ["a"]}], 6: ["b"]})


@case(".ort", "twice")
def runtime_value_twice() -> bytes:
    return runtime({2: [{5: "Abs", 8: ["a"], 9: ["b"]}] * 2, 5: ["a"], 6: ["b"]})


# MARK: Running


def run(apus: str, path: Path) -> tuple[int, str, float, float]:
    """Exit status, what was said, seconds of the processor, megabytes."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (4 * SECONDS, 4 * SECONDS))

    process = subprocess.Popen(
        [apus, "check", str(path), "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", preexec_fn=bound, env=os.environ | {"SWIFT_BACKTRACE": "enable=no"},
    )  # fmt: skip
    said = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, said, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def faults(apus: str, name: str, folder: Path) -> tuple[list[str], str]:
    """What is wrong with how a case ended, and how it did."""
    ending, expected, make = CASES[name]
    # No word of this name is one that a case expects.
    path = folder / ("file" + ending)
    path.write_bytes(make())
    status, said, seconds, megabytes = run(apus, path)
    found = []
    if status not in (0, 1):
        found.append(f"ended with status {status}: {said[-500:]}")
    if expected == "" and status != 0:
        found.append(f"should be read: {said[:500]}")
    if expected and (status == 0 and expected != "." or not re.search(expected, said)):
        found.append(f"should say '{expected}': status {status}, {said[:500]}")
    if seconds > SECONDS:
        found.append(f"took {seconds:.1f} s")
    if megabytes > MEGABYTES:
        found.append(f"took {megabytes:.0f} MB")
    if CANARY.exists():
        found.append("ran what the file says")
        CANARY.unlink()
    path.unlink(missing_ok=True)
    return found, f"{seconds:5.1f} s {megabytes:6.0f} MB  {' '.join(said.split())[:110]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", default=str(ROOT / ".build/release/apus"))
    parser.add_argument("--only", nargs="+", default=[], help="parts of names of cases")
    options = parser.parse_args()
    names = [name for name in CASES if not options.only or any(part in name for part in options.only)]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            found, line = faults(options.apus, name, Path(folder))
            failed += bool(found)
            print(f"{'FAILED' if found else 'ok':6} {name:36} {line}", flush=True)
            for fault in found:
                print(f"       {fault}")
    print(f"{len(names) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
