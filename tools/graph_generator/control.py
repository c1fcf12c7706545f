"""Control flow with captured values, and sequences."""

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h

from .core import FEEDS, Value


class Control:
    """Adds operators to a `Builder`."""

    def body(self, arguments, steps=3):
        """A generator for the inside of a node; it sees all values made so far."""
        inner = type(self)(int(self.random.integers(2**31)))
        inner.opset, inner.values, inner.prefix = self.opset, self.values + arguments, f"{self.name()}_"
        first = len(inner.values)
        simple = [
            inner.add_unary,
            inner.add_affine,
            inner.add_binary,
            inner.add_gelu,
            inner.add_swish,
            inner.add_hard_swish,
            inner.add_matmul,
            inner.add_convolution,
        ]
        for _ in range(int(inner.random.integers(1, steps + 1))):
            inner.pick(simple)()
        self.has_odd_numbers = self.has_odd_numbers or inner.has_odd_numbers
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
            branches.append(
                h.make_graph(
                    inner.nodes,
                    "branch",
                    [],
                    [h.make_tensor_value_info(result.name, T.FLOAT, None)],
                    inner.initializers,
                )
            )
        self.apply("If", [test.name], x.shapes, then_branch=branches[0], else_branch=branches[1])

    def add_loop(self):
        if not (x := self.value(rank=(1, 2, 3))):
            return
        i, c, state = self.name(), self.name(), self.name()
        inner, made = self.body([Value(state, T.FLOAT, x.shapes)])
        match = [v for v in made if v.shapes == x.shapes and v.kind == T.FLOAT]
        new = inner.apply("Tanh", [inner.pick(match).name if match else state], x.shapes)
        out = inner.apply("Identity", [c], [()] * FEEDS, T.BOOL)
        scan = inner.apply("Add", [new.name, state], x.shapes)
        trips = int(self.random.integers(1, 4))
        graph = h.make_graph(
            inner.nodes,
            "body",
            [
                h.make_tensor_value_info(i, T.INT64, []),
                h.make_tensor_value_info(c, T.BOOL, []),
                h.make_tensor_value_info(state, T.FLOAT, None),
            ],
            [h.make_tensor_value_info(v.name, v.kind, None) for v in (out, new, scan)],
            inner.initializers,
        )
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
            inner.nodes,
            "body",
            [h.make_tensor_value_info(n, T.FLOAT, [None] * len(rows[0])) for n in (state, element)],
            [h.make_tensor_value_info(v.name, T.FLOAT, [None] * len(rows[0])) for v in (new, out)],
            inner.initializers,
        )
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
            shapes = [s[:axis] + (2 * s[axis],) + s[axis + 1 :] for s in x.shapes]
            element = x.shapes
        else:
            name = self.name()
            self.nodes.append(h.make_node("SplitToSequence", [x.name, self.constant(np.int64(1))], [name], axis=axis))
            shapes, element = x.shapes, tuple(s[:axis] + (1,) + s[axis + 1 :] for s in x.shapes)
        if self.chance(0.5):
            self.apply("ConcatFromSequence", [name], shapes, axis=axis)
        else:
            self.apply("SequenceAt", [name, self.constant(np.int64(0))], element)
