"""Random small ONNX models for tools/random_graphs.py: valid by construction, with whatever passes of an optimizer look for.

A model has inputs of several shapes at once: every value knows its shape for each of the `FEEDS` feeds, and an operator is
only applied where it is valid for all of them. Values are shared, and any of them may be an output.
"""

import dataclasses

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

FEEDS = 3
KINDS = {T.FLOAT: np.float32, T.INT64: np.int64, T.BOOL: np.bool_, T.DOUBLE: np.float64, T.FLOAT16: np.float16}


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of the graph. `exact`: its bits do not depend on how sums are rounded, so it may be compared or cast."""

    name: str
    kind: int
    shapes: tuple
    exact: bool = False

    @property
    def rank(self):
        return len(self.shapes[0])

    def fixed(self, axis):
        """The extent of an axis if it is the same for all feeds."""
        extents = {shape[axis] for shape in self.shapes}
        return extents.pop() if len(extents) == 1 else None


class Generator:
    """One model. `build` returns it with its feeds."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.opset = int(self.random.choice([13, 17, 18, 20, 21, 23, 24]))
        self.nodes, self.initializers, self.values, self.inputs, self.feeds = [], [], [], [], [{} for _ in range(FEEDS)]
        self.declared = []
        self.count = 0
        self.prefix = ""

    # ---- choices

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, options):
        return options[int(self.random.integers(len(options)))]

    def value(self, kind=T.FLOAT, rank=None, test=None):
        """A value that fits, younger ones more often; None if there is none."""
        found = [v for v in self.values if v.kind == kind and (rank is None or v.rank in rank) and (test is None or test(v))]
        if not found:
            return None
        place = len(found) - 1 - min(int(self.random.exponential(3)), len(found) - 1)
        return found[place]

    # ---- making

    def name(self):
        self.count += 1
        return f"{self.prefix}v{self.count}"

    def constant(self, array):
        name = f"{self.prefix}c{len(self.initializers)}_{self.count}"
        self.initializers.append(nh.from_array(np.asarray(array), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def weights(self, *shape):
        return self.constant((self.random.standard_normal(shape) / max(1, np.prod(shape[1:])) ** 0.5).astype(np.float32))

    def apply(self, op, inputs, shapes, kind=T.FLOAT, exact=False, outputs=1, **attributes):
        """Adds a node; returns its (first) output. `shapes` are those for each feed."""
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(h.make_node(op, inputs, names, **attributes))
        found = [Value(name, kind, tuple(tuple(s) for s in shapes), exact) for name in names]
        self.values += found
        return found[0] if outputs == 1 else found

    def input(self, kind, shapes, dims):
        name = f"x{len(self.inputs)}"
        self.inputs.append(h.make_tensor_value_info(name, kind, dims))
        for feed, shape in zip(self.feeds, shapes):
            if kind == T.BOOL:
                feed[name] = np.asarray(self.random.random(shape) < 0.6)
            elif kind == T.INT64:
                feed[name] = self.random.integers(-4, 5, shape).astype(np.int64)
            else:
                feed[name] = (self.random.integers(-24, 25, shape) / 8).astype(KINDS[kind])
        self.values.append(Value(name, kind, tuple(tuple(s) for s in shapes), True))

    def number(self):
        """A number for a constant: mostly plain, sometimes one that rewrites trip over."""
        special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -0.5]
        if self.chance(0.03):
            return self.pick([np.nan, np.inf, -np.inf, 1e-30, 3e38])
        return self.pick(special) if self.chance(0.4) else float(np.round(self.random.normal(), 3))

    def scalar(self, number, rank):
        """A constant of one element with any number of axes, seldom more than `rank`."""
        axes = int(self.random.integers(0, rank + 2)) if self.chance(0.3) else 0
        return self.constant(np.full((1,) * axes, number, np.float32)), axes

    def binary(self, op, a, b, shapes_b=None, **more):
        """a op b; b may be a value, or a constant's name with its shapes. None if they do not broadcast."""
        name, other = (b.name, b.shapes) if isinstance(b, Value) else (b, shapes_b)
        try:
            shapes = [np.broadcast_shapes(x, y) for x, y in zip(a.shapes, other)]
        except ValueError:
            return None
        if any(np.prod(s) > 20000 for s in shapes):
            return None
        inputs = [a.name, name]
        if self.chance(0.5) and op in ("Add", "Mul", "Max", "Min"):
            inputs.reverse()
        return self.apply(op, inputs, shapes, a.kind, **more)

    def with_scalar(self, op, a, number, swap=True):
        name, axes = self.scalar(number, a.rank)
        shapes = [(1,) * max(0, axes - len(s)) + s for s in a.shapes]
        inputs = [a.name, name]
        if swap and op in ("Add", "Mul") and self.chance(0.4):
            inputs.reverse()
        return self.apply(op, inputs, shapes)

    # ---- the model

    def build(self):
        self.make_inputs()
        steps = int(self.random.integers(3, 16))
        emitters = [getattr(self, name) for name in dir(self) if name.startswith("add_")]
        odds = np.array([float(getattr(e, "odds", 1.0)) for e in emitters])
        for _ in range(steps):
            self.random.choice(emitters, p=odds / odds.sum())()
        made = {name for node in self.nodes for name in node.output}
        ends = [v for v in self.values if v.name in made]
        used = {name for node in self.nodes for name in node.input}
        chosen = [v for v in ends if v.name not in used or self.chance(0.15)]
        if self.chance(0.05):
            chosen.append(self.values[0])
        if not chosen:
            chosen = [self.values[-1]]
        self.random.shuffle(chosen)
        outputs = [h.make_tensor_value_info(v.name, v.kind, None) for v in chosen]
        graph = h.make_graph(self.nodes, "random", self.inputs, outputs, self.initializers, value_info=self.declared)
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", self.opset)], ir_version=8)
        return model, self.feeds, chosen

    def make_inputs(self):
        sizes = {s: [int(self.random.integers(1, 5)) for _ in range(FEEDS)] for s in ("n", "s", "t")}
        layouts = {
            2: ["n", 8], 3: ["n", "s", 8], 4: ["n", 4, 6, 6], 5: ["n", 3, "s", 4],
        }
        for key in self.random.choice(list(layouts), size=int(self.random.integers(1, 4)), replace=False):
            dims = [d if self.chance(0.9) or isinstance(d, int) else None for d in layouts[int(key)]]
            shapes = [[sizes[d][f] if isinstance(d, str) else d for d in layouts[int(key)]] for f in range(FEEDS)]
            self.input(T.FLOAT, shapes, dims)
        if self.chance(0.4):
            self.input(T.INT64, [[sizes["n"][f]] for f in range(FEEDS)], ["n"])
        if self.chance(0.4):
            self.input(T.BOOL, [[] for _ in range(FEEDS)], [])

    # ---- element by element

    def add_unary(self):
        if not (x := self.value()):
            return
        op, attributes, exact = self.pick([
            ("Relu", {}, True), ("Sigmoid", {}, False), ("Tanh", {}, False), ("Abs", {}, True), ("Neg", {}, True),
            ("LeakyRelu", {"alpha": float(self.pick([0.01, 0.3, 1.7, -0.5, 0.0]))}, False), ("HardSigmoid", {}, False),
            ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}, False), ("Elu", {}, False), ("Erf", {}, False), ("Identity", {}, True),
            ("Softplus", {}, False), ("HardSwish", {}, False) if self.opset >= 14 else ("Relu", {}, True),
            ("Gelu", {"approximate": self.pick(["none", "tanh"])}, False) if self.opset >= 20 else ("Neg", {}, True),
        ])
        self.apply(op, [x.name], x.shapes, exact=exact and x.exact, **attributes)
    add_unary.odds = 3

    def add_clip(self):
        if x := self.value():
            low = self.constant(np.float32(self.number())) if self.chance(0.8) else ""
            high = self.constant(np.float32(self.number())) if self.chance(0.8) else ""
            self.apply("Clip", [x.name, low, high], x.shapes)

    def add_affine(self):
        """A sum or product with a constant of one number, of one a channel, of one a column, or of the whole shape."""
        if not (x := self.value(rank=(1, 2, 3, 4, 5))):
            return
        op = self.pick(["Add", "Mul", "Sub", "Div", "Max", "Min"])
        extents = [x.fixed(axis) for axis in range(x.rank)]
        kind = self.pick(["one", "column", "channel", "whole", "row"])
        if kind == "one" and op in ("Add", "Mul", "Sub", "Div"):
            return self.with_scalar(op, x, self.number() if op != "Div" else self.number() or 0.25)
        if kind == "channel" and x.rank >= 3 and extents[1]:
            shape = (1,) * self.pick([0, 1]) + (extents[1],) + (1,) * (x.rank - 2)
        elif kind == "whole" and all(extents[1:]):
            shape = (1,) * self.pick([0, 1, 2]) + tuple(extents[1:])
        elif kind == "row" and x.rank >= 2 and extents[-2]:
            shape = (extents[-2], 1)
        else:
            shape = (1,) * self.pick([0, 0, 1, 2]) + (extents[-1] or 1,)
        array = np.round(self.random.standard_normal(shape), 2).astype(np.float32)
        if op == "Div":
            array[array == 0] = 0.5
        if self.chance(0.1):
            array.flat[0] = self.number() if op != "Div" else 0.5
        return self.binary(op, x, self.constant(array), [shape] * FEEDS)
    add_affine.odds = 3

    def add_binary(self):
        a, b = self.value(), self.value()
        if a and b and (op := self.pick(["Add", "Add", "Mul", "Sub", "Max", "Min"])):
            self.binary(op, a, b)
    add_binary.odds = 3

    def add_gelu(self):
        """Gelu, spelled out in one of many ways, or nearly."""
        if not (x := self.value()):
            return
        half = 0.5 if self.chance(0.9) else self.number()
        one = 1.0 if self.chance(0.9) else self.number()
        if self.chance(0.5):
            root = 2 ** 0.5 if self.chance(0.9) else self.number() or 1.0
            argument = self.with_scalar("Div", x, root) if self.chance(0.5) else self.with_scalar("Mul", x, 1 / root)
            curve = self.apply("Erf", [argument.name], argument.shapes)
        else:
            power = self.apply("Pow", [x.name, self.constant(np.float32(3))], x.shapes) if self.chance(0.5) else self.apply(
                "Mul", [self.apply("Mul", [x.name, x.name], x.shapes).name, x.name], x.shapes)
            inner = self.with_scalar("Mul", power, 0.044715)
            total = self.binary("Add", x, inner)
            scaled = self.with_scalar("Mul", total, 0.7978845608)
            curve = self.apply("Tanh", [scaled.name], scaled.shapes)
        shifted = self.with_scalar("Add", curve, one)
        order = self.random.integers(3)
        if order == 0:
            y = self.binary("Mul", self.with_scalar("Mul", x, half), shifted)
        elif order == 1:
            y = self.with_scalar("Mul", self.binary("Mul", x, shifted), half)
        else:
            y = self.binary("Mul", x, self.with_scalar("Mul", shifted, half))
        return y
    add_gelu.odds = 1.5

    def add_swish(self):
        if x := self.value():
            gate = self.apply("Sigmoid", [x.name if self.chance(0.9) else self.with_scalar("Mul", x, 1.702).name], x.shapes)
            if gate.shapes == x.shapes:
                self.binary("Mul", x, self.values[-1] if self.chance(0.9) else gate)

    # ---- products

    def add_matmul(self):
        if not (x := self.value(rank=(1, 2, 3, 4), test=lambda v: v.fixed(-1) and v.fixed(-1) <= 64)):
            return
        width, inner = int(self.pick([1, 3, 8, 8])), x.fixed(-1)
        shapes = [s[:-1] + (width,) for s in x.shapes]
        if x.rank == 2 and self.chance(0.4):
            flip = self.chance(0.5)
            weight = self.weights(width, inner) if flip else self.weights(inner, width)
            inputs = [x.name, weight]
            if self.chance(0.7):
                inputs.append(self.constant(self.random.standard_normal(self.pick([(width,), (1, width), (1,), (1, 1), ()])).astype(np.float32)))
            y = self.apply("Gemm", inputs, shapes, transB=int(flip), alpha=float(self.pick([1.0, 1.0, 0.5, -2.0])), beta=float(self.pick([1.0, 1.0, 0.5])))
        elif self.chance(0.2):
            weight = self.apply("Transpose", [self.weights(width, inner)], [(inner, width)] * FEEDS, perm=[1, 0])
            y = self.apply("MatMul", [x.name, weight.name], shapes)
        else:
            y = self.apply("MatMul", [x.name, self.weights(inner, width)], shapes)
        if self.chance(0.6):
            bias = self.pick([(width,), (1, width), (1, 1, width), (1,), ()])
            y = self.binary("Add", y, self.constant(self.random.standard_normal(bias).astype(np.float32)), [bias] * FEEDS) or y
        if self.chance(0.4) and (other := self.value(test=lambda v: v.shapes == y.shapes)):
            y = self.binary("Add", y, other)
        if self.chance(0.5):
            self.apply(self.pick(["Relu", "Tanh", "Sigmoid", "LeakyRelu"]), [y.name], y.shapes)
    add_matmul.odds = 3

    def add_convolution(self):
        x = self.value(rank=(3, 4), test=lambda v: v.fixed(1) and all(min(s[2:]) >= 2 for s in v.shapes))
        if not x:
            return
        channels, out = x.fixed(1), int(self.pick([4, 4, 3, 6]))
        group = channels if self.chance(0.2) and out % channels == 0 else 1
        size = int(self.pick([1, 1, 2, 3]))
        if any(min(s[2:]) < size for s in x.shapes):
            size = 1
        pad = size // 2 if self.chance(0.7) else 0
        spatial = x.rank - 2
        shapes = [(s[0], out) + tuple(e + 2 * pad - size + 1 for e in s[2:]) for s in x.shapes]
        if self.chance(0.1) and group == 1:
            weight, shapes = self.weights(channels, out, *[size] * spatial), [(s[0], out) + tuple(e - 2 * pad + size - 1 for e in s[2:]) for s in x.shapes]
            op = "ConvTranspose"
        else:
            weight, op = self.weights(out, channels // group, *[size] * spatial), "Conv"
        inputs = [x.name, weight] + ([self.weights(out)] if self.chance(0.5) else [])
        y = self.apply(op, inputs, shapes, kernel_shape=[size] * spatial, pads=[pad] * 2 * spatial, group=group)
        for _ in range(int(self.random.integers(0, 3))):
            if self.chance(0.3):
                variance = self.constant((self.random.random(out) + 0.3).astype(np.float32))
                y = self.apply("BatchNormalization", [y.name, self.weights(out), self.weights(out), self.weights(out), variance], y.shapes)
            else:
                shape = self.pick([(out, 1, 1)[: spatial + 1], (1, out, 1, 1)[: spatial + 2], (1, 1, 1), (), (1, 1, 1, 1, 1)])
                array = np.full(shape, self.number(), np.float32) if self.chance(0.3) else np.round(self.random.standard_normal(shape), 2).astype(np.float32)
                op = self.pick(["Add", "Mul", "Sub", "Div"])
                if op == "Div":
                    array = np.where(array == 0, np.float32(0.5), array)
                y = self.binary(op, y, self.constant(array), [shape] * FEEDS) or y
        if self.chance(0.4) and (other := self.value(test=lambda v: v.shapes == y.shapes)):
            y = self.binary("Add", y, other)
        if self.chance(0.5):
            self.apply(self.pick(["Relu", "Sigmoid", "LeakyRelu", "Tanh"]), [y.name], y.shapes)
    add_convolution.odds = 3

    def add_pool(self):
        if x := self.value(rank=(4,), test=lambda v: all(min(s[2:]) >= 2 for s in v.shapes)):
            op = self.pick(["MaxPool", "AveragePool", "GlobalAveragePool"])
            if op == "GlobalAveragePool":
                self.apply(op, [x.name], [s[:2] + (1, 1) for s in x.shapes])
            else:
                self.apply(op, [x.name], [s[:2] + (s[2] - 1, s[3] - 1) for s in x.shapes], kernel_shape=[2, 2])

    def add_attention(self):
        x = self.value(rank=(3,), test=lambda v: v.fixed(2) == 8)
        if not x:
            return
        heads = [(s[0], 2, s[1], 4) for s in x.shapes]

        def project():
            y = self.apply("MatMul", [x.name, self.weights(8, 8)], x.shapes)
            if self.chance(0.4):
                y = self.binary("Add", y, self.weights(8), [(8,)] * FEEDS)
            y = self.apply("Reshape", [y.name, self.ints(0, 0, 2, 4)], [(s[0], s[1], 2, 4) for s in x.shapes])
            return self.apply("Transpose", [y.name], heads, perm=[0, 2, 1, 3])
        q, k, v = project(), project(), project()
        if self.chance(0.4):
            q = self.with_scalar("Mul", q, self.pick([0.5, 0.5, 0.70710678, -0.5, 0.0]))
        kt = self.apply("Transpose", [k.name], [(s[0], 2, 4, s[2]) for s in k.shapes[:]] if k.rank == 4 else [], perm=[0, 1, 3, 2])
        if q.rank != 4:
            return
        scores = self.apply("MatMul", [q.name, kt.name], [(s[0], 2, s[2], s[2]) for s in heads])
        if self.chance(0.5):
            scores = self.with_scalar(self.pick(["Mul", "Div"]), scores, self.pick([0.5, 2.0, -0.5, 1.5]), swap=False)
            if scores.rank != 4:
                return
        safe = self.chance(0.5)
        if self.chance(0.5):
            if self.chance(0.5) and (mask := self.value(rank=(2, 3, 4), test=lambda m: all(np.broadcast_shapes(a, b) == b for a, b in zip(m.shapes, scores.shapes) if self.fits(a, b)) and all(self.fits(a, b) for a, b in zip(m.shapes, scores.shapes)))):
                scores = self.binary("Add", scores, mask)
            else:
                scores = self.with_scalar("Add", scores, self.number())
            if scores.rank != 4:
                return
        p = self.apply("Softmax", [scores.name], scores.shapes, axis=self.pick([-1, 3]))
        if safe:
            nan = self.apply("IsNaN", [p.name], p.shapes, kind=T.BOOL)
            p = self.apply("Where", [nan.name, self.constant(np.float32(0)), p.name], p.shapes)
        y = self.apply("MatMul", [p.name, v.name], heads)
        y = self.apply("Transpose", [y.name], [(s[0], s[2], 2, 4) for s in heads], perm=[0, 2, 1, 3])
        self.apply("Reshape", [y.name, self.ints(0, 0, 8)], x.shapes)
    add_attention.odds = 1.2

    @staticmethod
    def fits(a, b):
        try:
            return np.broadcast_shapes(a, b) == tuple(b)
        except ValueError:
            return False

    def add_normalization(self):
        if x := self.value(rank=(2, 3, 4), test=lambda v: v.fixed(-1)):
            if self.chance(0.5) and self.opset >= 17:
                self.apply("LayerNormalization", [x.name, self.weights(x.fixed(-1)), self.weights(x.fixed(-1))], x.shapes)
            else:
                self.apply(self.pick(["Softmax", "LogSoftmax"]), [x.name], x.shapes, axis=int(self.random.integers(-x.rank, x.rank)))

    # ---- shapes

    def add_transpose(self):
        if x := self.value(kind=self.pick([T.FLOAT, T.FLOAT, T.INT64]), rank=(2, 3, 4)):
            perm = [int(p) for p in self.pick([self.random.permutation(x.rank), np.arange(x.rank)[::-1], np.arange(x.rank)])]
            if x.rank == 4 and self.chance(0.4):
                perm = self.pick([[0, 2, 3, 1], [0, 3, 1, 2]])
            self.apply("Transpose", [x.name], [[s[p] for p in perm] for s in x.shapes], x.kind, x.exact, perm=perm)
    add_transpose.odds = 2

    def add_reshape(self):
        """By a constant with 0 and -1, by a shape that the graph computes, or one axis more or fewer."""
        if not (x := self.value(kind=self.pick([T.FLOAT, T.FLOAT, T.INT64]), rank=(1, 2, 3, 4))):
            return
        way = self.pick(["flat", "keep", "same", "computed", "unsqueeze", "squeeze", "flatten"])
        sizes = [int(np.prod(s)) for s in x.shapes]
        if way == "flat":
            self.apply("Reshape", [x.name, self.ints(-1)], [(n,) for n in sizes], x.kind, x.exact)
        elif way == "keep":
            self.apply("Reshape", [x.name, self.ints(0, -1)], [(s[0], n // s[0]) for s, n in zip(x.shapes, sizes)], x.kind, x.exact)
        elif way == "same":
            shape = self.apply("Shape", [x.name], [(x.rank,)] * FEEDS, T.INT64, True)
            self.apply("Reshape", [x.name, shape.name], x.shapes, x.kind, x.exact)
        elif way == "computed":
            shape = self.apply("Shape", [x.name], [(x.rank,)] * FEEDS, T.INT64, True)
            first = self.apply("Gather", [shape.name, self.ints(0)], [(1,)] * FEEDS, T.INT64, True)
            target = self.apply("Concat", [first.name, self.ints(-1)], [(2,)] * FEEDS, T.INT64, True, axis=0)
            self.apply("Reshape", [x.name, target.name], [(s[0], n // s[0]) for s, n in zip(x.shapes, sizes)], x.kind, x.exact)
        elif way == "unsqueeze" and x.rank < 4:
            axis = int(self.random.integers(0, x.rank + 1))
            self.apply("Unsqueeze", [x.name, self.ints(axis)], [s[:axis] + (1,) + s[axis:] for s in x.shapes], x.kind, x.exact)
        elif way == "squeeze" and (axes := [a for a in range(x.rank) if x.fixed(a) == 1]):
            axis = self.pick(axes)
            self.apply("Squeeze", [x.name, self.ints(axis)], [s[:axis] + s[axis + 1:] for s in x.shapes], x.kind, x.exact)
        elif way == "flatten":
            axis = int(self.random.integers(0, x.rank + 1))
            self.apply("Flatten", [x.name], [(int(np.prod(s[:axis])), int(np.prod(s[axis:]))) for s in x.shapes], x.kind, x.exact, axis=axis)
    add_reshape.odds = 3

    def add_slice(self):
        if not (x := self.value(kind=self.pick([T.FLOAT, T.INT64]), rank=(1, 2, 3, 4))):
            return
        axis = int(self.random.integers(x.rank))
        start, end, step = int(self.random.integers(-3, 3)), int(self.pick([1, 2, 3, 2 ** 31, -1, -2 ** 31])), int(self.pick([1, 1, 1, 2, -1]))
        shapes = [s[:axis] + (len(range(s[axis])[slice(start, end, step)]),) + s[axis + 1:] for s in x.shapes]
        if step > 0 and all(np.prod(s) for s in shapes):
            self.apply("Slice", [x.name, self.ints(start), self.ints(end), self.ints(axis), self.ints(step)], shapes, x.kind, x.exact)

    def add_concat(self):
        if not (x := self.value(rank=(1, 2, 3, 4))):
            return
        axis = int(self.random.integers(x.rank))
        same = [v for v in self.values if v.kind == x.kind and v.rank == x.rank and all(
            a[:axis] + a[axis + 1:] == b[:axis] + b[axis + 1:] for a, b in zip(v.shapes, x.shapes))]
        parts = [x] + [self.pick(same) for _ in range(int(self.random.integers(0, 3)))]
        shapes = [s[:axis] + (sum(p.shapes[f][axis] for p in parts),) + s[axis + 1:] for f, s in enumerate(x.shapes)]
        self.apply("Concat", [p.name for p in parts], shapes, exact=all(p.exact for p in parts), axis=self.pick([axis, axis - x.rank]))
    add_concat.odds = 2

    def add_split(self):
        if not (x := self.value(rank=(2, 3, 4))):
            return
        axis = int(self.random.integers(x.rank))
        if (extent := x.fixed(axis)) and extent % 2 == 0:
            shapes = [s[:axis] + (extent // 2,) + s[axis + 1:] for s in x.shapes]
            inputs = [x.name] + ([self.ints(extent // 2, extent // 2)] if self.chance(0.5) or self.opset >= 18 else [])
            self.apply("Split", inputs, shapes, exact=x.exact, outputs=2, axis=axis)

    def add_expand(self):
        x, y = self.value(), self.value()
        if x and y and all(self.fits(a, b) for a, b in zip(x.shapes, y.shapes)):
            shape = self.apply("Shape", [y.name], [(y.rank,)] * FEEDS, T.INT64, True)
            self.apply("Expand", [x.name, shape.name], y.shapes, exact=x.exact)

    def add_pad(self):
        if x := self.value(rank=(2, 3, 4)):
            pads = [int(self.pick([0, 0, 1])) for _ in range(2 * x.rank)] if self.chance(0.7) else [0] * (2 * x.rank)
            shapes = [tuple(e + pads[a] + pads[a + x.rank] for a, e in enumerate(s)) for s in x.shapes]
            self.apply("Pad", [x.name, self.ints(*pads)] + ([self.constant(np.float32(2))] if self.chance(0.4) else []), shapes, exact=x.exact)

    def add_shape_arithmetic(self):
        """Extents as numbers: sums, products and quotients that come back as a shape."""
        if not (x := self.value(rank=(2, 3, 4))):
            return
        shape = self.apply("Shape", [x.name], [(x.rank,)] * FEEDS, T.INT64, True)
        a = self.apply("Gather", [shape.name, self.ints(0)], [(1,)] * FEEDS, T.INT64, True)
        b = self.apply("Slice", [shape.name, self.ints(1), self.ints(2)], [(1,)] * FEEDS, T.INT64, True)
        ab = self.apply("Mul", [a.name, b.name], [(1,)] * FEEDS, T.INT64, True)
        target = self.apply("Concat", [ab.name, self.ints(-1)], [(2,)] * FEEDS, T.INT64, True, axis=0)
        y = self.apply("Reshape", [x.name, target.name], [(s[0] * s[1], int(np.prod(s[2:]))) for s in x.shapes], exact=x.exact)
        if self.chance(0.5):
            self.apply("Reshape", [y.name, shape.name], x.shapes, exact=x.exact)
        if self.chance(0.4):
            filled = self.apply("ConstantOfShape", [ab.name], [(s[0] * s[1],) for s in x.shapes], exact=True, value=nh.from_array(np.array([1.5], np.float32)))
            column = self.apply("Unsqueeze", [filled.name, self.ints(1)], [(s[0] * s[1], 1) for s in x.shapes], exact=True)
            self.binary("Add", y, column)
    add_shape_arithmetic.odds = 1.5

    def add_reduction(self):
        if x := self.value(rank=(1, 2, 3, 4)):
            axes = sorted({int(self.random.integers(x.rank)) for _ in range(int(self.random.integers(1, 3)))})
            keep = self.chance(0.5)
            shapes = [tuple(1 if a in axes else e for a, e in enumerate(s) if keep or a not in axes) for s in x.shapes]
            op = self.pick(["ReduceMean", "ReduceSum", "ReduceMax"])
            if self.chance(0.3):
                axes = [a - x.rank for a in axes]
            if self.opset >= 18 or op == "ReduceSum":
                self.apply(op, [x.name, self.ints(*axes)], shapes, keepdims=int(keep))
            else:
                self.apply(op, [x.name], shapes, axes=axes, keepdims=int(keep))
    add_reduction.odds = 1.5

    # ---- other types

    def add_integers(self):
        if x := self.value(T.INT64):
            op = self.pick(["Mul", "Add", "Sub", "Identity", "float"])
            if op == "float":
                self.apply("Cast", [x.name], x.shapes, exact=True, to=T.FLOAT)
            elif op == "Identity":
                self.apply(op, [x.name], x.shapes, T.INT64, True)
            else:
                self.apply(op, [x.name, self.constant(np.array(int(self.random.integers(-2, 3)), np.int64))], x.shapes, T.INT64, True)

    def add_cast(self):
        if x := self.value(test=lambda v: v.exact):
            to = self.pick([T.FLOAT, T.DOUBLE, T.FLOAT16, T.INT64])
            if to == T.INT64:
                self.apply("Cast", [x.name], x.shapes, T.INT64, True, to=to)
            elif to == T.FLOAT:
                self.apply("Cast", [x.name], x.shapes, exact=True, to=to)
            else:
                y = self.apply("Cast", [x.name], x.shapes, to, to=to)
                self.apply("Cast", [y.name], x.shapes, exact=True, to=T.FLOAT)

    def add_where(self):
        x, y = self.value(test=lambda v: v.exact), self.value()
        if x and y and all(self.fits(a, b) for a, b in zip(x.shapes, y.shapes)):
            test = self.apply(self.pick(["Less", "Greater"]), [x.name, self.constant(np.float32(0.4))], x.shapes, T.BOOL, True)
            self.apply("Where", [test.name, self.constant(np.float32(self.pick([0.0, 1.0, -2.0]))), y.name], y.shapes)

    def add_data_dependent(self):
        """Values whose extents only a run tells, and shapes of them that the file declares, right or wrong."""
        x = self.value(rank=(2, 3), test=lambda v: v.exact)
        if not x:
            return
        flat = self.apply("Reshape", [x.name, self.ints(-1)], [(int(np.prod(s)),) for s in x.shapes], exact=True)
        test = self.apply("Greater", [flat.name, self.constant(np.float32(0))], flat.shapes, T.BOOL, True)
        name, joined, largest, shape, spread = (self.name() for _ in range(5))
        by_whole = self.chance(0.5)
        self.nodes += [
            h.make_node("Compress", [flat.name, test.name], [name], axis=0),
            # With a last element there is always something to reduce.
            h.make_node("Concat", [name, self.constant(np.array([-9], np.float32))], [joined], axis=0),
            h.make_node("ReduceMax", [joined], [largest], keepdims=1),
            h.make_node("Shape", [flat.name if by_whole else name], [shape]),
            h.make_node("Expand", [largest, shape], [spread]),
        ]
        if self.chance(0.6):
            self.declared.append(h.make_tensor_value_info(name, T.FLOAT, [self.pick(["n", "s", 4, 1])]))
        if by_whole:
            self.values.append(Value(spread, T.FLOAT, flat.shapes, True))

    # ---- control flow and sequences

    def body(self, arguments, steps=3):
        """A generator for the inside of a node; it sees all values made so far."""
        inner = Generator(int(self.random.integers(2 ** 31)))
        inner.opset, inner.values, inner.prefix = self.opset, self.values + arguments, f"{self.name()}_"
        first = len(inner.values)
        simple = [inner.add_unary, inner.add_affine, inner.add_binary, inner.add_gelu, inner.add_swish, inner.add_matmul, inner.add_convolution]
        for _ in range(int(inner.random.integers(1, steps + 1))):
            inner.pick(simple)()
        return inner, inner.values[first:]

    def add_if(self):
        test, x = self.value(T.BOOL, rank=(0,)), self.value()
        if not test or not x:
            return
        branches = []
        for _ in range(2):
            inner, made = self.body([])
            match = [v for v in made if v.shapes == x.shapes and v.kind == T.FLOAT]
            result = self.pick(match) if match else inner.apply(self.pick(["Identity", "Neg"]), [x.name], x.shapes)
            branches.append(h.make_graph(inner.nodes, "branch", [], [h.make_tensor_value_info(result.name, T.FLOAT, None)], inner.initializers))
        self.apply("If", [test.name], x.shapes, then_branch=branches[0], else_branch=branches[1])

    def add_loop(self):
        if not (x := self.value(rank=(1, 2, 3))):
            return
        i, c, state = self.name(), self.name(), self.name()
        inner, made = self.body([Value(state, T.FLOAT, x.shapes)])
        match = [v for v in made if v.shapes == x.shapes and v.kind == T.FLOAT]
        new = inner.apply("Tanh", [(inner.pick(match).name if match else state)], x.shapes)
        out = inner.apply("Identity", [c], [()] * FEEDS, T.BOOL)
        scan = inner.apply("Add", [new.name, state], x.shapes)
        trips = int(self.random.integers(1, 4))
        graph = h.make_graph(
            inner.nodes, "body",
            [h.make_tensor_value_info(i, T.INT64, []), h.make_tensor_value_info(c, T.BOOL, []), h.make_tensor_value_info(state, T.FLOAT, None)],
            [h.make_tensor_value_info(v.name, v.kind, None) for v in (out, new, scan)], inner.initializers)
        names = [self.name(), self.name()]
        self.nodes.append(h.make_node("Loop", [self.constant(np.int64(trips)), "", x.name], names, body=graph))
        self.values.append(Value(names[0], T.FLOAT, x.shapes))
        self.values.append(Value(names[1], T.FLOAT, tuple((trips,) + s for s in x.shapes)))

    def add_scan(self):
        if not (x := self.value(rank=(2, 3))):
            return
        state, element = self.name(), self.name()
        rows = tuple(s[1:] for s in x.shapes)
        inner, made = self.body([Value(state, T.FLOAT, rows), Value(element, T.FLOAT, rows)])
        match = [v for v in made if v.shapes == rows and v.kind == T.FLOAT]
        total = inner.apply("Add", [state, element], rows)
        new = inner.apply("Tanh", [total.name], rows)
        out = inner.apply("Identity", [inner.pick(match).name if match else total.name], rows)
        graph = h.make_graph(
            inner.nodes, "body", [h.make_tensor_value_info(n, T.FLOAT, None) for n in (state, element)],
            [h.make_tensor_value_info(v.name, T.FLOAT, None) for v in (new, out)], inner.initializers)
        first = self.apply("ReduceSum", [x.name, self.ints(0)], rows, keepdims=0)
        names = [self.name(), self.name()]
        self.nodes.append(h.make_node("Scan", [first.name, x.name], names, body=graph, num_scan_inputs=1))
        self.values += [Value(names[0], T.FLOAT, rows), Value(names[1], T.FLOAT, x.shapes)]

    def add_sequence(self):
        if not (x := self.value(rank=(1, 2, 3))):
            return
        axis = int(self.random.integers(x.rank))
        if self.chance(0.5):
            parts, name = [x, self.value(test=lambda v: v.shapes == x.shapes) or x], self.name()
            self.nodes.append(h.make_node("SequenceConstruct", [p.name for p in parts], [name]))
            shapes = [s[:axis] + (2 * s[axis],) + s[axis + 1:] for s in x.shapes]
            element = x.shapes
        else:
            name = self.name()
            self.nodes.append(h.make_node("SplitToSequence", [x.name, self.constant(np.int64(1))], [name], axis=axis))
            shapes, element = x.shapes, tuple(s[:axis] + (1,) + s[axis + 1:] for s in x.shapes)
        if self.chance(0.5):
            self.apply("ConcatFromSequence", [name], shapes, axis=axis)
        else:
            self.apply("SequenceAt", [name, self.constant(np.int64(0))], element)
