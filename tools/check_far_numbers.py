#!/usr/bin/env python3
"""Every operator that an importer maps, with extents and numbers that are far too large, or below 0: what a rule
multiplies or makes a list of must be bounded before. `apus formats` says the operators of exported programs of PyTorch,
of Keras and of TensorFlow Lite; each becomes models of one layer, for a product of extents of its input and of numbers
that all its arguments have. Each must end in a graph that the checker accepts, or in an error, in two seconds and a
gigabyte. Nothing is run.

The models are read by tools/fuzz, hundreds in a process. Ends with the line `N passed, N failed, N skipped`. What ended
otherwise is kept below .cache/fuzz.

    tools/check_far_numbers.py [--only PART…] [--every N]
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

import check_hostile
import fuzz_models
from check_hostile import ROOT
from fuzz_models import CACHE, ENVIRONMENT, ending

FAR, LARGEST = 1 << 40, (1 << 31) - 1
NUMBERS = (FAR, (1 << 62) - 1, -(1 << 62), -1, 0)
# Those of 32 bits, where a format has no others.
NUMBERS_32 = (LARGEST, -LARGEST, -1, 0, 3)
EXTENTS = ((1, FAR), (1, 1, FAR), (1, 1, 5, FAR), (FAR, FAR), (2, 3, 4, 4))
EXTENTS_32 = tuple(tuple(min(extent, LARGEST) for extent in shape) for shape in EXTENTS)
SECONDS, MEGABYTES = 2, 1024
ADDRESS_SPACE = 8 << 30
PER_PROCESS = 200
ENDED = re.compile(r"(.*) \((\d+) ms, peak memory (\d+) MB\)\n?", re.DOTALL)
Case = tuple[str, str, Callable[[], bytes]]
"""What it is, the ending of its file, and what makes its bytes."""


# MARK: PyTorch

OPERANDS = ("self", "input", "x1", "x2", "other", "indices", "index", "weight", "mat2", "tensor", "values", "source")
AXES = ("dim", "dimension", "dim1", "axis")
INTEGERS = (
    "k n repeats steps row col rows cols sections chunks split_size groups num_groups upscale_factor downscale_factor "
    "start end step bins num_classes diagonal offset N length window_length m minlength n_fft hop_length decimals "
    "ord padding_idx cardinality max lambd dim0 dim2"
).split()
LISTS = (
    "kernel_size stride padding dilation output_size pad shape normalized_shape shifts dims split_sizes sizes s "
    "output_padding size"
).split()


def programs(operator: str) -> Iterator[Case]:
    """A program of one node, whose arguments are given by every name that operators have."""
    if operator.startswith(("_operator.", "math.", "torch.")):
        return
    for extents, number in itertools.product(EXTENTS, NUMBERS):

        def change(content: dict, extents=extents, number=number) -> None:
            graph = check_hostile.graph(content)
            graph["tensor_values"]["x"]["sizes"] = [{"as_int": extent} for extent in extents]
            tensor = {"as_tensor": {"name": "x"}}
            arguments = {name: tensor for name in OPERANDS} | {"tensors": {"as_tensors": [{"name": "x"}] * 2}}
            arguments |= {name: {"as_int": number} for name in INTEGERS}
            arguments |= {name: {"as_int": len(extents) - 1} for name in AXES}
            arguments |= {name: {"as_ints": [number] * max(1, len(extents) - 2)} for name in LISTS}
            node = graph["nodes"][0]
            name, _, overload = operator.partition(".")
            node["target"] = f"torch.ops.aten.{name}.{overload or 'default'}"
            node["inputs"] = [{"name": key, "arg": value, "kind": 1} for key, value in arguments.items()]

        yield f"{operator} of {extents} with {number}", ".pt2", functools.partial(check_hostile.program_with, change)


# MARK: Keras

KEYS = (
    "units filters kernel_size strides pool_size padding cropping size n axis axes dims target_shape shape num_heads "
    "key_dim value_dim groups dilation_rate output_size height width num_tokens bins shift depth_multiplier rank rate "
    "input_dim output_dim num_query_heads num_key_value_heads head_dim repeats sections k num_classes newshape axis1 "
    "pad_width axis2 offset block_size sequence_length sequence_stride fft_length start_index stop indices_or_sections"
).split()
SCALAR_KEYS = "units filters n num_heads key_dim value_dim num_tokens input_dim output_dim height width".split()


def layers(operator: str) -> Iterator[Case]:
    """A layer whose configuration has every member that layers have, or a function with arguments by their places."""
    is_layer = not operator.startswith(("tf.", "ops."))
    for extents, number in itertools.product(EXTENTS_32, NUMBERS_32):
        pair, tensor = [number] * max(1, len(extents) - 2), check_hostile.history("x")
        for value in (number, pair) if is_layer else ():
            members = {key: number if key in SCALAR_KEYS else value for key in KEYS}
            layer = check_hostile.layer(operator, "far", **members)
            yield network(operator, f"{extents} with {value}", extents, layer, [tensor], {})
        for given in () if is_layer else ([number], [pair], [number, number], [pair, number], [tensor, number]):
            name = operator.split(".", 1)[1]
            layer = {"class_name": name, "module": "keras.src.ops.numpy", "config": {"name": "far"}}
            if operator.startswith("tf."):
                layer |= {"class_name": "TFOpLambda", "module": "keras", "config": {"name": "far", "function": name}}
            what = f"{extents} with {[each if each is not tensor else 'x' for each in given]}"
            yield network(operator, what, extents, layer, [tensor, *given], {})
            yield network(operator, f"{what}, an axis", extents, layer, [tensor, *given[1:]], {"axis": number})


def network(operator: str, what: str, extents: tuple[int, ...], layer: dict, args: list, kwargs: dict) -> Case:
    """A model of one layer behind an input."""
    first = check_hostile.entry(*extents[1:]) | {"name": "x", "inbound_nodes": []}
    made = layer | {"name": "far", "inbound_nodes": [{"args": args, "kwargs": kwargs}]}
    config = {"name": "f", "layers": [first, made]}
    config |= {"input_layers": [["x", 0, 0]], "output_layers": [["far", 0, 0]]}
    model = {"class_name": "Functional", "module": "keras", "config": config}
    return f"{operator} of {what}", ".keras", functools.partial(check_hostile.keras_with, model)


# MARK: TensorFlow Lite

SCHEMA = ROOT / "Sources/ApusFormats/TFLite/TFLiteSchema.swift"
FLOAT32, INT32 = 0, 2
OPTION_FIELDS = 8


@functools.cache
def schema() -> tuple[list[str], dict[str, int]]:
    """The names of the operators by their numbers, and the types of the options by the names."""
    text = SCHEMA.read_text()
    names = re.search(r'operatorNames: \[String\] = """(.*?)"""', text, re.DOTALL)
    types = re.search(r"optionTypes: \[String: UInt8\] = \[(.*?)\n  \]", text, re.DOTALL)
    if not names or not types:
        raise SystemExit(f"{SCHEMA} has no lists of operators")
    return names[1].split(), {name: int(number) for name, number in re.findall(r'"(\w+)": (\d+)', types[1])}


def lite(operator: str) -> Iterator[Case]:
    """A graph of one operator: a tensor of large extents, then constants of the number, and options of the number."""
    names, types = schema()
    if operator not in names:  # one of the custom operators
        return
    code = names.index(operator)
    for shape, number, operands in itertools.product(EXTENTS_32, NUMBERS_32, (1, 2, 3, 4)):
        counts = [1, len(shape), 2]
        data = [[number] * counts[(index + operands) % 3] for index in range(operands - 1)]
        tensors = [tensor("x", shape, FLOAT32, 0)]
        tensors += [tensor(f"c{index}", [len(part)], INT32, index + 1) for index, part in enumerate(data)]
        tensors.append(tensor("y", shape, FLOAT32, 0))
        node = {0: 0, 1: list(range(operands)), 2: [operands]}
        if operator in types:
            node |= {3: (1, types[operator]), 4: dict.fromkeys(range(OPTION_FIELDS), number)}
        buffers = [{}] + [{0: b"".join(value.to_bytes(4, "little", signed=True) for value in part)} for part in data]
        graph = {0: tensors, 1: [0], 2: [operands], 3: [node], 4: "g"}
        model = {0: 3, 1: [{3: code}], 2: [graph], 4: buffers}
        make = functools.partial(check_hostile.flat, model, b"TFL3")
        yield f"{operator} of {shape} with {number}, {operands} operands", ".tflite", make


def tensor(name: str, shape: tuple[int, ...] | list[int], kind: int, buffer: int) -> dict:
    return {0: list(shape), 1: (1, kind), 2: buffer, 3: name}


# MARK: Running

MAKERS = {"pt2": programs, "keras": layers, "tflite": lite}


def cases(apus: str, only: list[str]) -> Iterator[Case]:
    told = subprocess.run([apus, "formats", "--json"], capture_output=True, text=True, check=True).stdout
    for form in json.loads(told)["formats"]:
        for operator in form["operators"] if form["name"] in MAKERS else []:
            if not only or any(part in f"{form['name']} {operator}" for part in only):
                yield from MAKERS[form["name"]](operator)


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
    parser.add_argument("--only", nargs="+", default=[], help="parts of names of formats and operators")
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    reading = Reading((options.driver or fuzz_models.build()).resolve(), options.space_mb << 20)
    chosen = itertools.islice(cases(options.apus, options.only), 0, None, options.every)
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
