"""Random networks as they are quantized in practice, for tools/check_quantization.py: images through convolutions of
every kind, and texts through transformers, with random weights whose channels differ in size, and samples for them.

Every value knows its shape without the batch, which is symbolic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Value:
    name: str
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        return self.shape[0]


class Network:
    """A network under construction."""

    def __init__(self, random: np.random.Generator, opset: int) -> None:
        self.random, self.opset = random, opset
        self.nodes: list = []
        self.constants: list = []
        self.inputs: list = []
        self.outputs: list = []

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, options: list):
        return options[int(self.random.integers(len(options)))]

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def weights(self, *shape: int, fan: int, axis: int = 0) -> str:
        """Normal numbers that keep the variance of `fan` addends; channels along `axis` are of different sizes."""
        array = self.random.standard_normal(shape) * (1.6 / fan) ** 0.5
        if self.chance(0.4):
            sizes = np.exp(self.random.normal(0, 0.7, shape[axis]))
            array *= sizes.reshape([-1 if at == axis else 1 for at in range(len(shape))])
        if self.chance(0.1):
            array = array * (np.arange(shape[axis]) != 0).reshape([-1 if at == axis else 1 for at in range(len(shape))])
        return self.constant(array.astype(np.float32))

    def vector(self, count: int, mean: float = 0, deviation: float = 0.3) -> str:
        return self.constant(self.random.normal(mean, deviation, count).astype(np.float32))

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes) -> Value:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{len(self.nodes)}", **attributes))
        return Value(name, tuple(shape))

    def output(self, value: Value) -> None:
        if value.name not in [info.name for info in self.outputs]:
            self.outputs.append(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["n", *value.shape]))

    def model(self) -> ModelProto:
        constants = [tensor for tensor in self.constants if tensor.data_type == TensorProto.FLOAT]
        if self.chance(0.1) and constants:
            # A constant may be an output too.
            tensor = self.pick(constants)
            self.outputs.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims)))
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


class ImageNetwork(Network):
    """Convolutions, what normalizes and joins them, and a head."""

    def build(self) -> tuple[ModelProto, list[Feeds]]:
        channels, size = int(self.pick([1, 3, 4])), int(self.pick([8, 12, 16]))
        self.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, size, size]))
        x = self.convolution(Value("x", (channels, size, size)), int(self.pick([4, 8, 12])), 3)
        self.shared: dict[tuple, str] = {}
        blocks = [
            self.plain,
            self.plain,
            self.residual,
            self.residual,
            self.inverted,
            self.grouped,
            self.branches,
            self.pool,
            self.excitation,
            self.resize,
            self.transposed,
            self.shuffle,
            self.split,
            self.pad,
            self.twice,
        ]
        for _ in range(int(self.random.integers(2, 6))):
            x = self.pick(blocks)(x)
            if self.chance(0.1):
                self.output(x)
        self.head(x)
        return self.model(), [{"x": self.picture(channels, size)} for _ in range(12)]

    def picture(self, channels: int, size: int) -> np.ndarray:
        """Smooth, with an offset of its own and some noise."""
        coarse = self.random.normal(0.4, 0.6, (1, channels, size // 4, size // 4)).repeat(4, 2).repeat(4, 3)
        return (coarse + self.random.normal(0, 0.15, coarse.shape)).astype(np.float32)

    # ---- layers

    def convolution(self, x: Value, out: int, size: int, stride: int = 1, group: int = 1) -> Value:
        """With BatchNormalization, a bias, or neither, and mostly an activation."""
        fan = x.channels // group * size * size
        inputs = [x.name, self.weights(out, x.channels // group, size, size, fan=fan)]
        if self.chance(0.5):
            inputs.append(self.vector(out))
        pad = size // 2
        shape = (out, *((extent + 2 * pad - size) // stride + 1 for extent in x.shape[1:]))
        attributes = {"strides": [stride] * 2, "group": group, "kernel_shape": [size] * 2}
        attributes |= {"auto_pad": "SAME_UPPER"} if stride == 1 and self.chance(0.1) else {"pads": [pad] * 4}
        y = self.node("Conv", inputs, shape, **attributes)
        if self.chance(0.4):
            spread = self.constant(self.random.uniform(0.3, 2, out).astype(np.float32))
            parameters = [self.vector(out, 1), self.vector(out), self.vector(out), spread]
            y = self.node("BatchNormalization", [y.name, *parameters], shape)
        return self.activation(y) if self.chance(0.85) else y

    def activation(self, x: Value) -> Value:
        plain = ["Relu", "Relu", "Relu", "Sigmoid", "Tanh", "Elu", "Softplus", "Swish", "Clip", "LeakyRelu", "PRelu"]
        plain += ["HardSigmoid", "Relu6"] + ["HardSwish"] * (self.opset >= 14) + ["Mish"] * (self.opset >= 18)
        op = self.pick(plain + ["Gelu"] * (self.opset >= 20))
        if op == "Swish":
            return self.node("Mul", [x.name, self.node("Sigmoid", [x.name], x.shape).name], x.shape)
        if op in ("Clip", "Relu6"):
            low, high = (0, 6) if op == "Relu6" else sorted(self.random.normal(0, 1, 2))
            bounds = [self.constant(np.float32(low)), self.constant(np.float32(high))]
            return self.node("Clip", [x.name, *bounds], x.shape)
        if op == "PRelu":
            shape = (x.channels, *[1] * (len(x.shape) - 1)) if self.chance(0.7) else (1,)
            slope = self.constant(self.random.uniform(-0.2, 0.5, shape).astype(np.float32))
            return self.node(op, [x.name, slope], x.shape)
        return self.node(op, [x.name], x.shape, **({"alpha": 0.1} if op == "LeakyRelu" else {}))

    def add(self, a: Value, b: Value) -> Value:
        y = self.node("Add", self.pick([[a.name, b.name], [b.name, a.name]]), a.shape)
        return self.activation(y) if self.chance(0.6) else y

    # ---- blocks

    def plain(self, x: Value) -> Value:
        stride = 2 if min(x.shape[1:]) >= 8 and self.chance(0.4) else 1
        return self.convolution(x, int(self.pick([4, 6, 8, 16])), int(self.pick([1, 3, 3])), stride)

    def residual(self, x: Value) -> Value:
        return self.add(self.convolution(self.convolution(x, x.channels, 3), x.channels, 3), x)

    def inverted(self, x: Value) -> Value:
        wide = self.convolution(x, x.channels * 2, 1)
        deep = self.convolution(wide, wide.channels, 3, group=wide.channels)
        narrow = self.convolution(deep, x.channels, 1)
        return self.add(narrow, x) if self.chance(0.7) else narrow

    def grouped(self, x: Value) -> Value:
        return self.convolution(x, x.channels * 2, 3, group=2) if x.channels % 2 == 0 else self.plain(x)

    def branches(self, x: Value) -> Value:
        parts = [self.convolution(x, int(self.pick([2, 4])), size) for size in (1, 3, 3)[: int(self.pick([2, 3]))]]
        if self.chance(0.4):
            parts.append(x)
        if self.chance(0.3):
            parts.append(self.node("MaxPool", [x.name], x.shape, kernel_shape=[3, 3], pads=[1] * 4))
        return self.node(
            "Concat", [part.name for part in parts], (sum(p.channels for p in parts), *x.shape[1:]), axis=1
        )

    def pool(self, x: Value) -> Value:
        if min(x.shape[1:]) < 4:
            return self.plain(x)
        op = self.pick(["MaxPool", "AveragePool"])
        shape = (x.channels, *(extent // 2 for extent in x.shape[1:]))
        y = self.node(op, [x.name], shape, kernel_shape=[2, 2], strides=[2, 2])
        return self.convolution(y, x.channels, 3)

    def excitation(self, x: Value) -> Value:
        """A gate from the means of all channels, as in squeeze and excitation."""
        mean = self.node("GlobalAveragePool", [x.name], (x.channels, 1, 1))
        inner = self.convolution(mean, 4, 1)
        outer = self.node("Conv", [inner.name, self.weights(x.channels, 4, 1, 1, fan=4)], (x.channels, 1, 1))
        gate = self.node(self.pick(["Sigmoid", "HardSigmoid"]), [outer.name], outer.shape)
        return self.node("Mul", [x.name, gate.name], x.shape)

    def resize(self, x: Value) -> Value:
        if max(x.shape[1:]) > 16:
            return self.plain(x)
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        mode = self.pick(["nearest", "linear"])
        shape = (x.channels, *(extent * 2 for extent in x.shape[1:]))
        attributes = {"coordinate_transformation_mode": "asymmetric"}
        attributes |= {"nearest_mode": "floor"} if mode == "nearest" else {}
        y = self.node("Resize", [x.name, "", scales], shape, mode=mode, **attributes)
        return self.convolution(y, x.channels, 3)

    def transposed(self, x: Value) -> Value:
        if max(x.shape[1:]) > 16:
            return self.plain(x)
        out, group = int(self.pick([4, 8])), int(self.pick([1, 2] if x.channels % 2 == 0 else [1]))
        inputs = [x.name, self.weights(x.channels, out // group, 2, 2, fan=x.channels, axis=1)]
        if self.chance(0.5):
            inputs.append(self.vector(out))
        shape = (out, *(extent * 2 for extent in x.shape[1:]))
        y = self.node("ConvTranspose", inputs, shape, strides=[2, 2], kernel_shape=[2, 2], group=group)
        return self.activation(y)

    def shuffle(self, x: Value) -> Value:
        if x.channels % 2:
            return self.plain(x)
        height, width = x.shape[1:]
        apart = self.node("Reshape", [x.name, self.ints(0, 2, x.channels // 2, height, width)], (2, 0, 0, 0))
        turned = self.node("Transpose", [apart.name], (0,), perm=[0, 2, 1, 3, 4])
        y = self.node("Reshape", [turned.name, self.ints(0, x.channels, height, width)], x.shape)
        return self.convolution(y, x.channels, 3, group=2)

    def split(self, x: Value) -> Value:
        """Two halves of the channels, of which one is convolved."""
        if x.channels % 2:
            return self.plain(x)
        half = (x.channels // 2, *x.shape[1:])
        names = [f"s{len(self.nodes)}", f"t{len(self.nodes)}"]
        sizes = self.ints(half[0], half[0])
        self.nodes.append(helper.make_node("Split", [x.name, sizes], names, name=f"Split_{len(self.nodes)}", axis=1))
        y = self.convolution(Value(names[0], half), half[0], 3)
        joined = self.node("Concat", [y.name, names[1]], x.shape, axis=1)
        return self.convolution(joined, x.channels, 1)

    def pad(self, x: Value) -> Value:
        if max(x.shape[1:]) > 20:
            return self.plain(x)
        pads = self.ints(0, 0, 1, 1, 0, 0, 1, 1)
        mode = self.pick(["constant", "reflect", "edge"] if min(x.shape[1:]) > 1 else ["constant", "edge"])
        y = self.node("Pad", [x.name, pads], (x.channels, *(e + 2 for e in x.shape[1:])), mode=mode)
        return self.convolution(y, x.channels, 3)

    def twice(self, x: Value) -> Value:
        """The same weights two times, and what is between them is an output, or read again."""
        weights = self.weights(x.channels, x.channels, 3, 3, fan=x.channels * 9)
        y = x
        for _ in range(2):
            y = self.node("Conv", [y.name, weights], x.shape, pads=[1] * 4)
            y = self.activation(y)
            if self.chance(0.3):
                self.output(y)
        return self.add(y, x) if self.chance(0.5) else y

    def head(self, x: Value) -> None:
        kind = self.pick(["classes", "classes", "classes", "mean", "map", "flat"])
        if kind == "map":
            last = self.node("Conv", [x.name, self.weights(2, x.channels, 1, 1, fan=x.channels)], (2, *x.shape[1:]))
            return self.output(self.node("Sigmoid", [last.name], last.shape) if self.chance(0.5) else last)
        if kind == "mean":
            axes = {"axes": [2, 3]} if self.opset < 18 else {}
            inputs = [x.name] + ([] if self.opset < 18 else [self.ints(2, 3)])
            flat = self.node("ReduceMean", inputs, (x.channels,), keepdims=0, **axes)
        elif kind == "flat":
            flat = self.node("Flatten", [x.name], (int(np.prod(x.shape)),), axis=1)
        else:
            mean = self.node("GlobalAveragePool", [x.name], (x.channels, 1, 1))
            if self.chance(0.5):
                flat = self.node("Flatten", [mean.name], (x.channels,))
            else:
                flat = self.node("Squeeze", [mean.name, self.ints(2, 3)], (x.channels,))
        width = flat.shape[0]
        if self.chance(0.4):
            hidden = self.node("MatMul", [flat.name, self.weights(width, 16, fan=width, axis=1)], (16,))
            hidden = self.node("Add", [hidden.name, self.vector(16)], (16,))
            flat, width = self.activation(hidden), 16
        turned = self.chance(0.5)
        weights = self.weights(*((5, width) if turned else (width, 5)), fan=width, axis=0 if turned else 1)
        factors = {"alpha": 0.5, "beta": 2.0} if self.chance(0.2) else {}
        y = self.node("Gemm", [flat.name, weights, self.vector(5)], (5,), transB=int(turned), **factors)
        self.output(self.node("Softmax", [y.name], (5,), axis=-1) if self.chance(0.3) else y)


class TextNetwork(Network):
    """A transformer: a table of tokens, attention, two products around an activation, normalization, a head."""

    def build(self) -> tuple[ModelProto, list[Feeds]]:
        self.width, self.length = int(self.pick([16, 32, 48])), int(self.pick([5, 8]))
        self.heads, self.tokens = int(self.pick([2, 4])), 40
        self.inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", self.length]))
        shape = (self.length, self.width)
        table = self.constant(self.random.standard_normal((self.tokens, self.width)).astype(np.float32))
        x = self.node("Gather", [table, "ids"], shape)
        x = self.node("Add", [x.name, self.constant(self.random.normal(0, 0.3, shape).astype(np.float32))], shape)
        before = self.chance(0.5)
        for _ in range(int(self.pick([1, 2]))):
            for part in (self.attention, self.feed_forward):
                if before:
                    x = self.node("Add", [x.name, part(self.normalized(x)).name], shape)
                else:
                    x = self.normalized(self.node("Add", [x.name, part(x).name], shape))
            if self.chance(0.1):
                self.output(x)
        self.head(x, table)
        return self.model(), [
            {"ids": self.random.integers(0, self.tokens, (1, self.length)).astype(np.int64)} for _ in range(12)
        ]

    def normalized(self, x: Value) -> Value:
        scale, bias = self.vector(self.width, 1), self.vector(self.width)
        return self.node("LayerNormalization", [x.name, scale, bias], x.shape, axis=-1)

    def product(self, x: Value, out: int, bias: bool = True) -> Value:
        width = x.shape[-1]
        shape = (*x.shape[:-1], out)
        weights = self.weights(width, out, fan=width, axis=1)
        if self.chance(0.15):
            turned = self.weights(out, width, fan=width)
            weights = self.node("Transpose", [turned], (0,), perm=[1, 0]).name
        y = self.node("MatMul", [x.name, weights], shape)
        return self.node("Add", [self.vector(out), y.name][:: self.pick([1, -1])], shape) if bias else y

    def attention(self, x: Value) -> Value:
        depth = self.width // self.heads
        split = self.ints(0, self.length, self.heads, depth)
        parts = []
        for which in range(3):
            y = self.node("Reshape", [self.product(x, self.width).name, split], (0,))
            order = [0, 2, 3, 1] if which == 1 else [0, 2, 1, 3]
            parts.append(self.node("Transpose", [y.name], (0,), perm=order).name)
        scores = self.node("MatMul", parts[:2], (0,))
        scores = self.node("Mul", [scores.name, self.constant(np.float32(depth**-0.5))], (0,))
        if self.chance(0.3):
            mask = np.triu(np.full((self.length, self.length), -1e9, np.float32), 1)
            scores = self.node("Add", [scores.name, self.constant(mask)], (0,))
        shares = self.node("Softmax", [scores.name], (0,), axis=-1)
        mixed = self.node("MatMul", [shares.name, parts[2]], (0,))
        turned = self.node("Transpose", [mixed.name], (0,), perm=[0, 2, 1, 3])
        joined = self.node("Reshape", [turned.name, self.ints(0, self.length, self.width)], x.shape)
        return self.product(joined, self.width)

    def feed_forward(self, x: Value) -> Value:
        y = self.product(x, self.width * 2)
        kind = self.pick(["Gelu", "Erf", "Relu", "Swish"])
        if kind == "Swish":
            y = self.node("Mul", [y.name, self.node("Sigmoid", [y.name], y.shape).name], y.shape)
        elif kind == "Gelu" and self.opset >= 20:
            y = self.node("Gelu", [y.name], y.shape, approximate=self.pick(["none", "tanh"]))
        elif kind == "Relu":
            y = self.node("Relu", [y.name], y.shape)
        else:
            root = self.node("Div", [y.name, self.constant(np.float32(2**0.5))], y.shape)
            error = self.node("Erf", [root.name], y.shape)
            more = self.node("Add", [error.name, self.constant(np.float32(1))], y.shape)
            y = self.node("Mul", [self.node("Mul", [y.name, more.name], y.shape).name, self.half()], y.shape)
        return self.product(y, self.width)

    def half(self) -> str:
        return self.constant(np.float32(0.5))

    def head(self, x: Value, table: str) -> None:
        kind = self.pick(["tokens", "first", "mean"])
        if kind == "tokens":
            # The table of the tokens is the matrix of the last product too.
            turned = self.node("Transpose", [table], (0,), perm=[1, 0])
            return self.output(self.node("MatMul", [x.name, turned.name], (self.length, self.tokens)))
        if kind == "first":
            pooled = self.node("Gather", [x.name, self.constant(np.int64(0))], (self.width,), axis=1)
        else:
            axes = {"axes": [1]} if self.opset < 18 else {}
            inputs = [x.name] + ([] if self.opset < 18 else [self.ints(1)])
            pooled = self.node("ReduceMean", inputs, (self.width,), keepdims=0, **axes)
        weights = self.weights(self.width, 6, fan=self.width, axis=1)
        y = self.node("Gemm", [pooled.name, weights, self.vector(6)], (6,))
        self.output(self.node("Tanh", [y.name], (6,)) if self.chance(0.3) else y)


def network(seed: int, kind: str) -> tuple[ModelProto, list[Feeds]]:
    """The model of a seed, images or texts, and samples of one entry each."""
    random = np.random.default_rng([seed, len(kind)])
    opset = int(random.choice([13, 17, 18, 20, 21]) if kind == "images" else random.choice([17, 18, 20, 21]))
    return (ImageNetwork if kind == "images" else TextNetwork)(random, opset).build()
