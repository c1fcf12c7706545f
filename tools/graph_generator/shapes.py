"""Changes of shape, and shapes as numbers."""

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from .core import FEEDS, Value


class Shapes:
    """Adds operators to a `Builder`."""

    def add_transpose(self):
        if x := self.value(kind=self.pick([T.FLOAT, T.FLOAT, T.INT64]), rank=(2, 3, 4)):
            perm = [
                int(p) for p in self.pick([self.random.permutation(x.rank), np.arange(x.rank)[::-1], np.arange(x.rank)])
            ]
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
            self.apply(
                "Reshape",
                [x.name, self.ints(0, -1)],
                [(s[0], n // s[0]) for s, n in zip(x.shapes, sizes)],
                x.kind,
                x.exact,
            )
        elif way == "same":
            shape = self.apply("Shape", [x.name], [(x.rank,)] * FEEDS, T.INT64, True)
            self.apply("Reshape", [x.name, shape.name], x.shapes, x.kind, x.exact)
        elif way == "computed":
            shape = self.apply("Shape", [x.name], [(x.rank,)] * FEEDS, T.INT64, True)
            first = self.apply("Gather", [shape.name, self.ints(0)], [(1,)] * FEEDS, T.INT64, True)
            target = self.apply("Concat", [first.name, self.ints(-1)], [(2,)] * FEEDS, T.INT64, True, axis=0)
            self.apply(
                "Reshape", [x.name, target.name], [(s[0], n // s[0]) for s, n in zip(x.shapes, sizes)], x.kind, x.exact
            )
        elif way == "unsqueeze" and x.rank < 4:
            axis = int(self.random.integers(0, x.rank + 1))
            self.apply(
                "Unsqueeze", [x.name, self.ints(axis)], [s[:axis] + (1,) + s[axis:] for s in x.shapes], x.kind, x.exact
            )
        elif way == "squeeze" and (axes := [a for a in range(x.rank) if x.fixed(a) == 1]):
            axis = self.pick(axes)
            self.apply(
                "Squeeze", [x.name, self.ints(axis)], [s[:axis] + s[axis + 1 :] for s in x.shapes], x.kind, x.exact
            )
        elif way == "flatten":
            axis = int(self.random.integers(0, x.rank + 1))
            self.apply(
                "Flatten",
                [x.name],
                [(int(np.prod(s[:axis])), int(np.prod(s[axis:]))) for s in x.shapes],
                x.kind,
                x.exact,
                axis=axis,
            )

    add_reshape.odds = 3

    def add_slice(self):
        if not (x := self.value(kind=self.pick([T.FLOAT, T.INT64]), rank=(1, 2, 3, 4))):
            return
        axis = int(self.random.integers(x.rank))
        start, end, step = (
            int(self.random.integers(-3, 3)),
            int(self.pick([1, 2, 3, 2**31, -1, -(2**31)])),
            int(self.pick([1, 1, 1, 2, -1])),
        )
        shapes = [s[:axis] + (len(range(s[axis])[slice(start, end, step)]),) + s[axis + 1 :] for s in x.shapes]
        if step > 0 and all(np.prod(s) for s in shapes):
            self.apply(
                "Slice",
                [x.name, self.ints(start), self.ints(end), self.ints(axis), self.ints(step)],
                shapes,
                x.kind,
                x.exact,
            )

    def add_concat(self):
        if not (x := self.value(rank=(1, 2, 3, 4))):
            return
        axis = int(self.random.integers(x.rank))
        same = [
            v
            for v in self.values
            if v.kind == x.kind
            and v.rank == x.rank
            and all(a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :] for a, b in zip(v.shapes, x.shapes))
        ]
        parts = [x] + [self.pick(same) for _ in range(int(self.random.integers(0, 3)))]
        shapes = [s[:axis] + (sum(p.shapes[f][axis] for p in parts),) + s[axis + 1 :] for f, s in enumerate(x.shapes)]
        self.apply(
            "Concat",
            [p.name for p in parts],
            shapes,
            exact=all(p.exact for p in parts),
            axis=self.pick([axis, axis - x.rank]),
        )

    add_concat.odds = 2

    def add_split(self):
        if not (x := self.value(rank=(2, 3, 4))):
            return
        axis = int(self.random.integers(x.rank))
        if (extent := x.fixed(axis)) and extent % 2 == 0:
            shapes = [s[:axis] + (extent // 2,) + s[axis + 1 :] for s in x.shapes]
            inputs = [x.name] + ([self.ints(extent // 2, extent // 2)] if self.chance(0.5) or self.opset >= 18 else [])
            self.apply("Split", inputs, shapes, exact=x.exact, outputs=2, axis=axis)

    def add_parts(self):
        """Wide values that are joined, cut, and joined again, with steps between that could work in place."""
        if not (x := self.value(rank=(2, 3), test=lambda v: v.fixed(v.rank - 1))):
            return
        depth, axis = x.fixed(x.rank - 1), x.rank - 1
        parts = []
        for _ in range(int(self.random.integers(2, 5))):
            width = int(self.pick([16, 16, 20, 32]))
            shapes = [s[:-1] + (width,) for s in x.shapes]
            part = self.apply("MatMul", [x.name, self.weights(depth, width)], shapes)
            if self.chance(0.6):
                part = self.apply(self.pick(["Relu", "Neg", "Tanh"]), [part.name], shapes)
            parts.append(part)
        for _ in range(int(self.random.integers(1, 4))):
            chosen = [self.pick(parts) for _ in range(int(self.random.integers(2, 4)))]
            # Along another axis only what is as wide.
            along = axis
            if self.chance(0.3):
                along = int(self.random.integers(axis))
                chosen = [p for p in chosen if p.shapes == chosen[0].shapes]
            shapes = [
                s[:along] + (sum(p.shapes[f][along] for p in chosen),) + s[along + 1 :]
                for f, s in enumerate(chosen[0].shapes)
            ]
            if any(np.prod(s) > 20000 for s in shapes):
                return
            joined = self.apply("Concat", [p.name for p in chosen], shapes, axis=along)
            if self.chance(0.4):
                joined = self.apply("Abs", [joined.name], shapes)
            if along != axis:
                continue
            width = joined.fixed(axis)
            if self.chance(0.5):
                widths = [p.fixed(axis) for p in chosen]
                names = [self.name() for _ in widths]
                self.nodes.append(h.make_node("Split", [joined.name, self.ints(*widths)], names, axis=axis))
                found = [Value(n, T.FLOAT, tuple(s[:-1] + (w,) for s in shapes)) for n, w in zip(names, widths)]
            else:
                ends = self.ints(16), self.ints(2**31)
                bounds = [[self.ints(0), ends[0], self.ints(axis)], [ends[0], ends[1], self.ints(axis)]]
                found = [
                    self.apply("Slice", [joined.name, *bound], [s[:-1] + (w,) for s in shapes])
                    for bound, w in zip(bounds, (16, width - 16))
                ]
            if self.chance(0.5):
                found[0] = self.apply("Neg", [found[0].name], found[0].shapes)
            self.values += [v for v in found if v not in self.values]
            parts += found

    add_parts.odds = 3

    def add_expand(self):
        x, y = self.value(), self.value()
        if x and y and all(self.fits(a, b) for a, b in zip(x.shapes, y.shapes)):
            shape = self.apply("Shape", [y.name], [(y.rank,)] * FEEDS, T.INT64, True)
            self.apply("Expand", [x.name, shape.name], y.shapes, exact=x.exact)

    def add_pad(self):
        if x := self.value(rank=(2, 3, 4)):
            pads = [int(self.pick([0, 0, 1])) for _ in range(2 * x.rank)] if self.chance(0.7) else [0] * (2 * x.rank)
            shapes = [tuple(e + pads[a] + pads[a + x.rank] for a, e in enumerate(s)) for s in x.shapes]
            self.apply(
                "Pad",
                [x.name, self.ints(*pads)] + ([self.constant(np.float32(2))] if self.chance(0.4) else []),
                shapes,
                exact=x.exact,
            )

    def add_shape_arithmetic(self):
        """Extents as numbers: sums, products and quotients that come back as a shape."""
        if not (x := self.value(rank=(2, 3, 4))):
            return
        shape = self.apply("Shape", [x.name], [(x.rank,)] * FEEDS, T.INT64, True)
        a = self.apply("Gather", [shape.name, self.ints(0)], [(1,)] * FEEDS, T.INT64, True)
        b = self.apply("Slice", [shape.name, self.ints(1), self.ints(2)], [(1,)] * FEEDS, T.INT64, True)
        ab = self.apply("Mul", [a.name, b.name], [(1,)] * FEEDS, T.INT64, True)
        target = self.apply("Concat", [ab.name, self.ints(-1)], [(2,)] * FEEDS, T.INT64, True, axis=0)
        y = self.apply(
            "Reshape", [x.name, target.name], [(s[0] * s[1], int(np.prod(s[2:]))) for s in x.shapes], exact=x.exact
        )
        if self.chance(0.5):
            self.apply("Reshape", [y.name, shape.name], x.shapes, exact=x.exact)
        if self.chance(0.4):
            filled = self.apply(
                "ConstantOfShape",
                [ab.name],
                [(s[0] * s[1],) for s in x.shapes],
                exact=True,
                value=nh.from_array(np.array([1.5], np.float32)),
            )
            column = self.apply(
                "Unsqueeze", [filled.name, self.ints(1)], [(s[0] * s[1], 1) for s in x.shapes], exact=True
            )
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
