#!/usr/bin/env python3
"""What a new size of the inputs costs: the first run of a size less the next ones, after the session has seen a few.

Caches hold other addresses and weights after a run of another size, whether that is new or not. So the sizes are run
once more, when all are known, and what the first run of each costs then is taken off: what is left is planning, which
is what a bind is.

For small models that are made here, of the kinds whose sizes change from run to run (an encoder and a decoder of text,
an encoder of sound with a decoder beside it, a detector), and for the models of the command line, whose inputs have
symbolic extents: those whose name has `batch` in it are 1, all others take the size. Needs libapus
(`swift build -c release --product apus-c`) and the python that `tools/python-env test` prints. Keep the machine quiet:
a run that is interrupted looks like a size that costs much; the median of all sizes is what counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
import apus  # noqa: E402

#: Sizes before the first that is measured: plans are made node by node until then.
WARM = 3
#: Of the models that are made here.
LAYERS = 6
WIDTH = 32
HEADS = 4
TOKENS = 64
#: Positions that the tables of embeddings have.
LONGEST = 512


class Builder:
    """A graph as exporters write it: shapes are computed by nodes, node by node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.random = np.random.default_rng(1)

    def input(self, name: str, kind: int, shape: list[str | int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant((self.random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{op}_{len(self.nodes)}", **attributes))
        return name

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, infos, self.initializers)
        for info in graph.output:
            info.type.tensor_type.ClearField("shape")
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    # What layers are made of.

    def extent(self, x: str, axis: int) -> str:
        """The extent of an axis, a tensor of one number."""
        return self.add("Gather", self.add("Shape", x), self.integers(axis), axis=0)

    def linear(self, x: str, inner: int, outer: int) -> str:
        return self.add("Add", self.add("MatMul", x, self.weights(inner, outer)), self.weights(outer))

    def norm(self, x: str) -> str:
        return self.add("LayerNormalization", x, self.weights(WIDTH), self.weights(WIDTH), axis=-1)

    def by_head(self, x: str, order: list[int]) -> str:
        size = self.integers(WIDTH // HEADS)
        shape = self.add("Concat", self.extent(x, 0), self.extent(x, 1), self.integers(HEADS), size, axis=0)
        return self.add("Transpose", self.add("Reshape", x, shape), perm=order)

    def attention(self, x: str, context: str, mask: str | None) -> str:
        query = self.by_head(self.linear(x, WIDTH, WIDTH), [0, 2, 1, 3])
        key = self.by_head(self.linear(context, WIDTH, WIDTH), [0, 2, 3, 1])
        value = self.by_head(self.linear(context, WIDTH, WIDTH), [0, 2, 1, 3])
        scores = self.add("Div", self.add("MatMul", query, key), self.constant(np.float32((WIDTH / HEADS) ** 0.5)))
        if mask:
            scores = self.add("Add", scores, mask)
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        mixed = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        shape = self.add("Concat", self.extent(x, 0), self.extent(x, 1), self.integers(WIDTH), axis=0)
        return self.linear(self.add("Reshape", mixed, shape), WIDTH, WIDTH)

    def feed_forward(self, x: str) -> str:
        inner = self.add("Gelu", self.linear(self.norm(x), WIDTH, 4 * WIDTH))
        return self.add("Add", x, self.linear(inner, 4 * WIDTH, WIDTH))

    def positions(self, x: str) -> str:
        """x and as many rows of a table as it has."""
        table = self.weights(LONGEST, WIDTH)
        return self.add("Add", x, self.add("Slice", table, self.integers(0), self.extent(x, 1), self.integers(0)))

    def causal_mask(self, x: str) -> str:
        length = self.extent(x, 1)
        square = self.add("Concat", length, length, axis=0)
        ones = self.add("ConstantOfShape", square, value=numpy_helper.from_array(np.array([-1e9], np.float32)))
        return self.add("Trilu", ones, self.constant(np.int64(1)), upper=1)

    def tokens(self, name: str) -> str:
        ids = self.input(name, TensorProto.INT64, ["batch", "length"])
        return self.positions(self.add("Gather", self.weights(TOKENS, WIDTH), ids))

    def layer(self, x: str, context: str | None = None, mask: str | None = None) -> str:
        normed = self.norm(x)
        x = self.add("Add", x, self.attention(normed, normed, mask))
        if context:
            x = self.add("Add", x, self.attention(self.norm(x), context, None))
        return self.feed_forward(x)

    def conv(self, x: str, inner: int, outer: int, kernel: list[int], stride: int = 1) -> str:
        pads = [size // 2 for size in kernel] * 2
        return self.add(
            "Conv",
            x,
            self.weights(outer, inner, *kernel),
            self.weights(outer),
            pads=pads,
            strides=[stride] * len(kernel),
        )


def text_encoder() -> onnx.ModelProto:
    b = Builder("text encoder")
    x = b.tokens("ids")
    for _ in range(LAYERS):
        x = b.layer(x)
    return b.model(x)


def text_decoder() -> onnx.ModelProto:
    b = Builder("text decoder")
    x = b.tokens("ids")
    mask = b.causal_mask(x)
    for _ in range(LAYERS):
        x = b.layer(x, mask=mask)
    return b.model(b.linear(x, WIDTH, TOKENS))


def speech() -> onnx.ModelProto:
    """An encoder with convolutions in front, and a decoder that attends to it."""
    b = Builder("speech")
    sound = b.input("sound", TensorProto.FLOAT, ["batch", 16, "frames"])
    x = b.add("Gelu", b.conv(sound, 16, WIDTH, [3]))
    x = b.add("Gelu", b.conv(x, WIDTH, WIDTH, [3], stride=2))
    x = b.positions(b.add("Transpose", x, perm=[0, 2, 1]))
    for _ in range(LAYERS):
        x = b.layer(x)
    context = b.norm(x)
    y = b.tokens("ids")
    mask = b.causal_mask(y)
    for _ in range(LAYERS):
        y = b.layer(y, context, mask)
    return b.model(b.linear(y, WIDTH, TOKENS))


def detector() -> onnx.ModelProto:
    """Features of three sizes, brought together from the smallest up; boxes and scores of all, and the best of them."""
    b = Builder("detector")
    x = b.input("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    x = b.add("Relu", b.conv(x, 3, WIDTH, [3, 3], stride=2))
    levels = []
    for _ in range(3):
        x = b.add("Relu", b.conv(x, WIDTH, WIDTH, [3, 3], stride=2))
        for _ in range(LAYERS):
            inner = b.add("Relu", b.conv(x, WIDTH, WIDTH, [1, 1]))
            x = b.add("Relu", b.add("Add", x, b.conv(inner, WIDTH, WIDTH, [3, 3])))
        levels.append(x)
    boxes, scores, top = [], [], None
    for level in reversed(levels):
        merged = b.conv(level, WIDTH, WIDTH, [1, 1])
        if top:
            sizes = b.add("Concat", b.integers(1, WIDTH), b.extent(level, 2), b.extent(level, 3), axis=0)
            larger = b.add("Resize", top, "", "", sizes, mode="nearest", coordinate_transformation_mode="asymmetric")
            merged = b.conv(b.add("Concat", larger, merged, axis=1), 2 * WIDTH, WIDTH, [3, 3])
        top = b.add("Relu", merged)
        for outputs, channels in ((boxes, 4), (scores, 8)):
            head = b.add("Transpose", b.conv(top, WIDTH, channels, [3, 3]), perm=[0, 2, 3, 1])
            shape = b.add("Concat", b.extent(head, 0), b.integers(-1, channels), axis=0)
            outputs.append(b.add("Reshape", head, shape))
    found = b.add("Exp", b.add("Concat", *boxes, axis=1))
    score = b.add("Transpose", b.add("Sigmoid", b.add("Concat", *scores, axis=1)), perm=[0, 2, 1])
    limits = [b.integers(10), b.constant(np.array([0.5], np.float32)), b.constant(np.array([0.4], np.float32))]
    best = b.add("NonMaxSuppression", found, score, *limits)
    model = b.model(found, score, best)
    model.graph.output[2].type.tensor_type.elem_type = TensorProto.INT64
    return model


#: By name: how it is made, and what its extents are multiples of.
MADE: dict[str, tuple[Callable[[], onnx.ModelProto], int]] = {
    "text encoder": (text_encoder, 1),
    "text decoder": (text_decoder, 1),
    "speech": (speech, 2),
    "detector": (detector, 1),
}


def feeds(session: apus.InferenceSession, size: int) -> dict[str, np.ndarray]:
    values = {}
    for info in session.get_inputs():
        shape = [1 if "batch" in str(d) else d if isinstance(d, int) else size for d in info.shape]
        values[info.name] = np.ones(shape, np.int64 if info.type == "tensor(int64)" else np.float32)
    return values


def seconds(session: apus.InferenceSession, values: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    session.run(None, values)
    return time.perf_counter() - started


def costs(session: apus.InferenceSession, multiple: int, sizes: np.ndarray) -> tuple[float, float]:
    """What the first run of a size takes beyond the next ones, and what those take: medians, in microseconds."""
    beyond, runs = [], []
    for size in sizes:
        values = feeds(session, int(size) * multiple)
        first = seconds(session, values)
        again = min(seconds(session, values) for _ in range(3))
        beyond.append(first - again)
        runs.append(again)
    return 1e6 * float(np.median(beyond[WARM:])), 1e6 * float(np.median(runs[WARM:]))


def measure(name: str, path: Path, multiple: int, sizes: np.ndarray) -> None:
    """Prints what sizes cost in the model."""
    session = apus.InferenceSession(path, threads=1)
    nodes = len(onnx.load(path, load_external_data=False).graph.node)
    new, run = costs(session, multiple, sizes)
    known, _ = costs(session, multiple, sizes)
    bind = new - known
    print(
        f"{name}: a new size {new:.0f} µs, a known one after another {known:.0f} µs, so a bind {bind:.0f} µs:"
        f" {100 * bind / nodes:.0f} µs for 100 nodes of the file ({nodes}); a run {run:.0f} µs"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="*")
    parser.add_argument("--sizes", type=int, default=40, help="how many sizes are measured")
    parser.add_argument("--smallest", type=int, default=16)
    parser.add_argument("--only-given", action="store_true", help="without the models that are made here")
    arguments = parser.parse_args()
    random = np.random.default_rng(1)
    sizes = random.permutation(arguments.sizes + WARM) + arguments.smallest
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, multiple) in MADE.items():
            if arguments.only_given:
                break
            path = Path(folder) / "model.onnx"
            onnx.save(make(), path)
            measure(name, path, multiple, sizes)
    for path in arguments.model:
        measure(path.name, path, 1, sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
