#!/usr/bin/env python3
"""What a token costs as the past grows: a decoder with a key/value cache, fed with its own results.

Takes exported decoders whose inputs `past…` come back as outputs `present…`, and makes one itself where none is given.
For some lengths of the past it prints the time of a token, that of attention in it (from a profile of the same tokens),
and the rest, which does not depend on the past where the cache grows in place. The decoders of all lengths take tokens
in turn. `--copy` feeds arrays instead, which are copied.

`--fixed` takes decoders of its own with caches of fixed size, bound as input and output: one with TensorScatter and
Attention, one with GroupQueryAttention, whose node writes the cache too. It says besides how many bytes a token needs
beside the cache: the least limit on the memory of a run that it keeps to. A copy of a cache would be among them.

Needs libapus (`swift build -c release --product apus-c`) and the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
import apus  # noqa: E402


def decoder(layers: int, heads: int, size: int) -> onnx.ModelProto:
    """Layers of attention over a cache and a product each, in float32."""
    random = np.random.default_rng(0)
    width = heads * size
    nodes, weights, inputs, outputs = [], [], [], []

    def weight(name: str, *shape: int) -> str:
        values = (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    weights.append(onnx.numpy_helper.from_array(np.array([0, 0, heads, size]), "split_heads"))
    weights.append(onnx.numpy_helper.from_array(np.array([0, 0, width]), "join_heads"))
    inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", width]))
    hidden = "x"
    for layer in range(layers):

        def named(name: str, layer: int = layer) -> str:
            return f"{name}.{layer}"

        parts = {}
        for part in ("query", "key", "value"):
            nodes.append(helper.make_node("MatMul", [hidden, weight(named(f"w_{part}"), width, width)], [named(part)]))
            nodes.append(helper.make_node("Reshape", [named(part), "split_heads"], [named(f"{part}_split")]))
            turned = named(f"{part}_heads")
            nodes.append(helper.make_node("Transpose", [named(f"{part}_split")], [turned], perm=[0, 2, 1, 3]))
            parts[part] = turned
        for part in ("key", "value"):
            past, present = f"past.{layer}.{part}", f"present.{layer}.{part}"
            nodes.append(helper.make_node("Concat", [past, parts[part]], [present], axis=2))
            inputs.append(helper.make_tensor_value_info(past, TensorProto.FLOAT, ["batch", heads, "past", size]))
            outputs.append(
                helper.make_tensor_value_info(present, TensorProto.FLOAT, ["batch", heads, "past + sequence", size])
            )
            parts[part] = present
        nodes.append(helper.make_node("Attention", [parts["query"], parts["key"], parts["value"]], [named("context")]))
        nodes.append(helper.make_node("Transpose", [named("context")], [named("turned")], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [named("turned"), "join_heads"], [named("joined")]))
        nodes.append(
            helper.make_node("MatMul", [named("joined"), weight(named("w_out"), width, width)], [named("out")])
        )
        nodes.append(helper.make_node("Add", [named("out"), hidden], [named("hidden")]))
        hidden = named("hidden")
    outputs.insert(0, helper.make_tensor_value_info(hidden, TensorProto.FLOAT, ["batch", "sequence", width]))
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def fixed_decoder(kind: str, layers: int, heads: int, size: int, room: int) -> onnx.ModelProto:
    """Layers of attention over a cache of `room` rows and a product each; `kind` is "scatter" or "grouped"."""
    random = np.random.default_rng(0)
    width = heads * size
    nodes, weights = [], []
    cache = [1, heads, room, size]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, width])]
    outputs = []
    if kind == "scatter":
        inputs.append(helper.make_tensor_value_info("position", TensorProto.INT64, [1]))
        weights.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
        weights.append(onnx.numpy_helper.from_array(np.array([1, heads, 1, size]), "by_head"))
        weights.append(onnx.numpy_helper.from_array(np.array([1, 1, width]), "joined"))
        nodes.append(helper.make_node("Add", ["position", "one"], ["valid"]))
    else:
        inputs.append(helper.make_tensor_value_info("position", TensorProto.INT32, [1]))
        weights.append(onnx.numpy_helper.from_array(np.array(room, np.int32), "total"))
    hidden = "x"
    for layer in range(layers):
        parts = {}
        for part in ("query", "key", "value", "out"):
            values = (random.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(values, f"w_{part}.{layer}"))
            if part != "out":
                parts[part] = f"{part}.{layer}"
                nodes.append(helper.make_node("MatMul", [hidden, f"w_{part}.{layer}"], [parts[part]]))
        pasts = [f"past.{layer}.{part}" for part in ("key", "value")]
        presents = [past.replace("past", "present") for past in pasts]
        inputs += [helper.make_tensor_value_info(past, TensorProto.FLOAT, cache) for past in pasts]
        outputs += [helper.make_tensor_value_info(present, TensorProto.FLOAT, cache) for present in presents]
        result = f"context.{layer}"
        if kind == "scatter":
            for part, name in list(parts.items()):
                parts[part] = f"{name}.by_head"
                nodes.append(helper.make_node("Reshape", [name, "by_head"], [parts[part]]))
            for past, present, part in zip(pasts, presents, ("key", "value"), strict=True):
                nodes.append(helper.make_node("TensorScatter", [past, parts[part], "position"], [present]))
            nodes.append(
                helper.make_node("Attention", [parts["query"], *presents, "", "", "", "valid"], [f"{result}.by_head"])
            )
            nodes.append(helper.make_node("Reshape", [f"{result}.by_head", "joined"], [result]))
        else:
            operands = [parts["query"], parts["key"], parts["value"], *pasts, "position", "total"]
            nodes.append(
                helper.make_node(
                    "GroupQueryAttention",
                    operands,
                    [result, *presents],
                    domain="com.microsoft",
                    num_heads=heads,
                    kv_num_heads=heads,
                )
            )
        nodes.append(helper.make_node("MatMul", [result, f"w_out.{layer}"], [f"out.{layer}"]))
        nodes.append(helper.make_node("Add", [f"out.{layer}", hidden], [f"hidden.{layer}"]))
        hidden = f"hidden.{layer}"
    outputs.insert(0, helper.make_tensor_value_info(hidden, TensorProto.FLOAT, [1, 1, width]))
    graph = helper.make_graph(nodes, kind, inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


class FixedDecoder:
    """A session on a decoder with caches of fixed size, of which `filled` rows are in use."""

    def __init__(
        self, path: Path, copies: bool, filled: int, profiling: bool = False, limit: int | None = None
    ) -> None:
        self.session = apus.InferenceSession(path, threads=1, profiling=profiling, maximum_run_memory=limit)
        self.copies = copies
        self.random = np.random.default_rng(1)
        self.length = filled
        self.inputs = {info.name: info for info in self.session.get_inputs()}
        self.cache = {
            name: self.random.standard_normal(info.shape).astype(np.float32)
            for name, info in self.inputs.items()
            if name.startswith("past")
        }
        self.binding = self.session.io_binding()
        for name, array in self.cache.items():
            value = apus.OrtValue.ortvalue_from_numpy(array)
            self.binding.bind_ortvalue_input(name, value)
            self.binding.bind_ortvalue_output(name.replace("past", "present", 1), value)
        self.binding.bind_output(self.session.get_outputs()[0].name)

    @property
    def cache_bytes(self) -> int:
        return sum(array.nbytes for array in self.cache.values())

    def token(self) -> float:
        """The seconds that a token takes."""
        x = self.random.standard_normal(self.inputs["x"].shape).astype(np.float32)
        is_wide = self.inputs["position"].type == "tensor(int64)"
        position = np.array([self.length], np.int64 if is_wide else np.int32)
        self.length += 1
        if self.copies:
            started = time.perf_counter()
            self.session.run(None, {"x": x, "position": position, **self.cache})
            return time.perf_counter() - started
        self.binding.bind_cpu_input("x", x)
        self.binding.bind_cpu_input("position", position)
        started = time.perf_counter()
        self.session.run_with_iobinding(self.binding)
        return time.perf_counter() - started


def bytes_beside(path: Path, copies: bool, filled: int) -> int:
    """The least memory, to 64 KB, that runs of one token may be limited to."""
    low, high = 0, 1 << 16
    while True:
        try:
            decoder = FixedDecoder(path, copies, filled, limit=high << 16)
            for _ in range(2):
                decoder.token()
        except Exception:
            low = high
            if high >= 1 << 20:
                raise
            high *= 2
            continue
        break
    while high - low > 1:
        middle = (low + high) // 2
        try:
            decoder = FixedDecoder(path, copies, filled, limit=middle << 16)
            for _ in range(2):
                decoder.token()
            high = middle
        except Exception:
            low = middle
    return high << 16


class Decoder:
    """A session with the values that one token hands to the next."""

    def __init__(self, path: Path, copies: bool, profiling: bool = False) -> None:
        self.session = apus.InferenceSession(path, threads=1, profiling=profiling)
        self.copies = copies
        self.random = np.random.default_rng(1)
        self.past = [info for info in self.session.get_inputs() if info.name.startswith("past")]
        self.others = [info for info in self.session.get_inputs() if not info.name.startswith("past")]
        self.names = [info.name for info in self.session.get_outputs()]
        self.cache = {}
        for info in self.past:
            shape = [d if isinstance(d, int) else 0 if "past" in str(d) else 1 for d in info.shape]
            self.cache[info.name] = self.box(np.zeros(shape, np.float32))
        self.length = 0

    def box(self, array: np.ndarray) -> apus.OrtValue:
        return apus.OrtValue.ortvalue_from_numpy(array)

    def feeds(self, count: int) -> dict[str, apus.OrtValue]:
        feeds = dict(self.cache)
        for info in self.others:
            shape = []
            for extent in info.shape:
                text = str(extent)
                known = {"batch": 1, "sequence": count}.get(text, self.length + count if "past" in text else count)
                shape.append(extent if isinstance(extent, int) else known)
            if info.type == "tensor(float)":
                array = self.random.standard_normal(shape).astype(np.float32)
            else:
                array = np.ones(shape, np.int64)
            feeds[info.name] = self.box(array)
        return feeds

    def token(self, count: int = 1) -> float:
        """The seconds that `count` tokens take in one run."""
        feeds = self.feeds(count)
        started = time.perf_counter()
        results = self.session.run_with_ort_values(None, feeds)
        seconds = time.perf_counter() - started
        by_name = dict(zip(self.names, results, strict=True))
        for info in self.past:
            present = by_name[info.name.replace("past", "present", 1)]
            self.cache[info.name] = self.box(np.array(present.numpy())) if self.copies else present
        self.length += count
        return seconds


def tokens_in_turn(decoders: Sequence[Decoder | FixedDecoder], tokens: int) -> list[tuple[float, float]]:
    """The seconds of attention and of the rest in a token, for each of some decoders: lower quartiles.

    The decoders take a token in turn. So all find the caches of the machine full of the others' weights and pasts, and
    a machine that changes its speed does so for all of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        os.chdir(folder)
        try:
            for decoder in decoders:
                decoder.session.end_profiling()
            seconds = [[decoder.token() for decoder in decoders] for _ in range(tokens)]
            files = [Path(decoder.session.end_profiling()).read_text() for decoder in decoders]
        finally:
            os.chdir(here)
    times = []
    for index, text in enumerate(files):
        events = json.loads(text)
        if isinstance(events, dict):
            events = events["traceEvents"]
        found = [event for event in events if "dur" in event and "ttention" in json.dumps(event.get("args", {}))]
        steps = [event["dur"] / 1e6 for event in sorted(found, key=lambda event: event["ts"])]
        each = len(steps) // tokens
        attention = np.array([sum(steps[each * token : each * (token + 1)]) for token in range(tokens)])
        rest = np.array([row[index] for row in seconds]) - attention
        times.append((float(np.percentile(attention, 25)), float(np.percentile(rest, 25))))
    return times


def fixed(arguments: argparse.Namespace) -> int:
    """The table for caches of fixed size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("scatter", "grouped"):
            path = Path(folder) / f"{kind}.onnx"
            onnx.save(fixed_decoder(kind, layers=8, heads=12, size=64, room=arguments.room), path)
            needed = bytes_beside(path, arguments.copy, arguments.lengths[0])
            decoders = [FixedDecoder(path, arguments.copy, length, profiling=True) for length in arguments.lengths]
            for decoder in decoders * 8:
                decoder.token()
            times = tokens_in_turn(decoders, arguments.tokens)
            for length, decoder, (attention, rest) in zip(arguments.lengths, decoders, times, strict=True):
                row = {
                    "model": path.name,
                    "filled": length,
                    "attention_ms": 1e3 * attention,
                    "rest_ms": 1e3 * rest,
                    "cache_bytes": decoder.cache_bytes,
                    "bytes_beside": needed,
                }
                rows.append(row)
                if not arguments.json:
                    print(
                        f"{path.name}: {length} rows: attention {row['attention_ms']:.2f} ms a token, the rest "
                        f"{row['rest_ms']:.2f} ms; the cache has "
                        f"{row['cache_bytes'] / 1e6:.0f} MB, a run needs {needed / 1e6:.1f} MB beside it",
                        flush=True,
                    )
    if arguments.json:
        print(json.dumps(rows))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="*")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024, 2048])
    parser.add_argument("--tokens", type=int, default=24, help="how many are timed at each length")
    parser.add_argument("--copy", action="store_true", help="hand the cache on as arrays")
    parser.add_argument("--fixed", action="store_true", help="caches of fixed size")
    parser.add_argument("--room", type=int, default=2176, help="their rows")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.fixed:
        return fixed(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = arguments.model
        if not paths:
            paths = [Path(folder) / "decoder.onnx"]
            onnx.save(decoder(layers=8, heads=12, size=64), paths[0])
        for path in paths:
            decoders = [Decoder(path, arguments.copy, profiling=True) for _ in arguments.lengths]
            for length, timed in zip(arguments.lengths, decoders, strict=True):
                timed.token(length)
            for timed in decoders * 8:
                timed.token()
            times = tokens_in_turn(decoders, arguments.tokens)
            for length, (attention, rest) in zip(arguments.lengths, times, strict=True):
                row = {
                    "model": path.name,
                    "past": length,
                    "token_ms": 1e3 * (attention + rest),
                    "attention_ms": 1e3 * attention,
                    "rest_ms": 1e3 * rest,
                }
                rows.append(row)
                if not arguments.json:
                    print(
                        f"{path.name}: past {length}: a token {row['token_ms']:.2f} ms, attention "
                        f"{row['attention_ms']:.2f} ms, the rest {row['rest_ms']:.2f} ms",
                        flush=True,
                    )
    if arguments.json:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
