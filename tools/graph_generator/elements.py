"""Operators that work on each element, Gelu and Swish spelled out, other element types."""

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h

from .core import FEEDS, Value


class Elements:
    """Adds operators to a `Builder`."""

    def add_unary(self):
        if not (x := self.value()):
            return
        op, attributes, exact = self.pick(
            [
                ("Relu", {}, True),
                ("Sigmoid", {}, False),
                ("Tanh", {}, False),
                ("Abs", {}, True),
                ("Neg", {}, True),
                ("LeakyRelu", {"alpha": float(self.pick([0.01, 0.3, 1.7, -0.5, 0.0]))}, False),
                ("HardSigmoid", {}, False),
                ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}, False),
                ("Elu", {}, False),
                ("Erf", {}, False),
                ("Identity", {}, True),
                ("Softplus", {}, False),
                ("HardSwish", {}, False) if self.opset >= 14 else ("Relu", {}, True),
                (
                    ("Gelu", {"approximate": self.pick(["none", "tanh"])}, False)
                    if self.opset >= 20
                    else ("Neg", {}, True)
                ),
            ]
        )
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
        array = np.asarray(np.round(self.random.standard_normal(shape), 2), np.float32)
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
            root = 2**0.5 if self.chance(0.9) else self.number() or 1.0
            argument = self.with_scalar("Div", x, root) if self.chance(0.5) else self.with_scalar("Mul", x, 1 / root)
            curve = self.apply("Erf", [argument.name], argument.shapes)
        else:
            power = (
                self.apply("Pow", [x.name, self.constant(np.float32(3))], x.shapes)
                if self.chance(0.5)
                else self.apply("Mul", [self.apply("Mul", [x.name, x.name], x.shapes).name, x.name], x.shapes)
            )
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
            gate = self.apply(
                "Sigmoid", [x.name if self.chance(0.9) else self.with_scalar("Mul", x, 1.702).name], x.shapes
            )
            if gate.shapes == x.shapes:
                self.binary("Mul", x, self.values[-1] if self.chance(0.9) else gate)

    def add_hard_swish(self):
        """x · clip(x + 3, 0, 6) / 6 and its gate alone, or with another number in one place."""
        if not (x := self.value()):
            return
        shift, high, sixth = (number if self.chance(0.9) else self.number() for number in (3, 6, 1 / 6))
        shifted = self.with_scalar("Add", x, shift)
        bounds = [self.constant(np.float32(0)), self.constant(np.float32(high))]
        gate = self.apply("Clip", [shifted.name, *bounds], shifted.shapes)
        match self.pick(["product first", "gate first", "gate"]):
            case "product first":
                if product := self.binary("Mul", x, gate):
                    self.with_scalar("Mul", product, sixth)
            case "gate first":
                self.binary("Mul", x, self.with_scalar("Mul", gate, sixth))
            case "gate":
                self.with_scalar("Div", gate, 6)

    def add_integers(self):
        if x := self.value(T.INT64):
            op = self.pick(["Mul", "Add", "Sub", "Identity", "float"])
            if op == "float":
                self.apply("Cast", [x.name], x.shapes, exact=True, to=T.FLOAT)
            elif op == "Identity":
                self.apply(op, [x.name], x.shapes, T.INT64, True)
            else:
                self.apply(
                    op,
                    [x.name, self.constant(np.array(int(self.random.integers(-2, 3)), np.int64))],
                    x.shapes,
                    T.INT64,
                    True,
                )

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
            test = self.apply(
                self.pick(["Less", "Greater"]), [x.name, self.constant(np.float32(0.4))], x.shapes, T.BOOL, True
            )
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
