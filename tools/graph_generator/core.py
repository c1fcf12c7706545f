"""The making of a model: values with their shapes for each feed, nodes, constants, choices."""

import dataclasses

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

FEEDS = 5
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


class Builder:
    """A model under construction."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.opset = int(self.random.choice([13, 17, 18, 20, 21, 23, 24]))
        self.nodes, self.initializers, self.values, self.inputs, self.feeds = [], [], [], [], [{} for _ in range(FEEDS)]
        self.declared = []
        self.count = 0
        # NaN and infinities go through pools and bounds as each engine has it.
        self.has_odd_numbers = False
        self.prefix = ""

    # ---- choices

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, options):
        return options[int(self.random.integers(len(options)))]

    def value(self, kind=T.FLOAT, rank=None, test=None):
        """A value that fits, younger ones more often; None if there is none."""
        found = [
            v for v in self.values if v.kind == kind and (rank is None or v.rank in rank) and (test is None or test(v))
        ]
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
        return self.constant(
            (self.random.standard_normal(shape) / max(1, np.prod(shape[1:])) ** 0.5).astype(np.float32)
        )

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
            self.has_odd_numbers = True
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
