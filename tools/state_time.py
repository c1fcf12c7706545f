#!/usr/bin/env python3
"""What a token costs as the past grows: a decoder with a key/value cache, fed with its own results.

Takes exported decoders whose inputs `past…` come back as outputs `present…`, and makes one itself where none is given.
For some lengths of the past it prints the time of a token, that of attention in it (from a profile of the same tokens),
and the rest, which does not depend on the past where the cache grows in place. `--copy` feeds arrays instead, which are
copied. Needs libapus (`swift build -c release --product apus-c`) and the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
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


def attention_seconds(decoder: Decoder, tokens: int) -> float:
    """Of one token."""
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        os.chdir(folder)
        try:
            decoder.session.end_profiling()
            for _ in range(tokens):
                decoder.token()
            events = json.loads(Path(decoder.session.end_profiling()).read_text())
        finally:
            os.chdir(here)
    if isinstance(events, dict):
        events = events["traceEvents"]
    spent = sum(event.get("dur", 0) for event in events if "ttention" in json.dumps(event.get("args", {})))
    return spent / 1e6 / tokens


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="*")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024, 2048])
    parser.add_argument("--tokens", type=int, default=24, help="how many are timed at each length")
    parser.add_argument("--copy", action="store_true", help="hand the cache on as arrays")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = arguments.model
        if not paths:
            paths = [Path(folder) / "decoder.onnx"]
            onnx.save(decoder(layers=8, heads=12, size=64), paths[0])
        for path in paths:
            for length in arguments.lengths:
                timed = Decoder(path, arguments.copy)
                timed.token(length)
                for _ in range(8):
                    timed.token()
                seconds = float(np.percentile([timed.token() for _ in range(arguments.tokens)], 25))
                profiled = Decoder(path, arguments.copy, profiling=True)
                profiled.token(length)
                for _ in range(8):
                    profiled.token()
                attention = attention_seconds(profiled, arguments.tokens)
                row = {
                    "model": path.name,
                    "past": length,
                    "token_ms": 1e3 * seconds,
                    "attention_ms": 1e3 * attention,
                    "rest_ms": 1e3 * (seconds - attention),
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
