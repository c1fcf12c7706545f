"""Matrix products, convolutions, attention, normalization, with what passes fuse into them."""

import numpy as np
from onnx import TensorProto as T

from .core import FEEDS


class Layers:
    """Adds operators to a `Builder`."""

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
                inputs.append(
                    self.constant(
                        self.random.standard_normal(self.pick([(width,), (1, width), (1,), (1, 1), ()])).astype(
                            np.float32
                        )
                    )
                )
            y = self.apply(
                "Gemm",
                inputs,
                shapes,
                transB=int(flip),
                alpha=float(self.pick([1.0, 1.0, 0.5, -2.0])),
                beta=float(self.pick([1.0, 1.0, 0.5])),
            )
        elif self.chance(0.2):
            weight = self.apply("Transpose", [self.weights(width, inner)], [(inner, width)] * FEEDS, perm=[1, 0])
            y = self.apply("MatMul", [x.name, weight.name], shapes)
        else:
            y = self.apply("MatMul", [x.name, self.weights(inner, width)], shapes)
        if self.chance(0.6):
            bias = self.pick([(width,), (1, width), (1, 1, width), (1,), ()])
            y = (
                self.binary(
                    "Add", y, self.constant(self.random.standard_normal(bias).astype(np.float32)), [bias] * FEEDS
                )
                or y
            )
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
            weight, shapes = (
                self.weights(channels, out, *[size] * spatial),
                [(s[0], out) + tuple(e - 2 * pad + size - 1 for e in s[2:]) for s in x.shapes],
            )
            op = "ConvTranspose"
        else:
            weight, op = self.weights(out, channels // group, *[size] * spatial), "Conv"
        inputs = [x.name, weight] + ([self.weights(out)] if self.chance(0.5) else [])
        y = self.apply(op, inputs, shapes, kernel_shape=[size] * spatial, pads=[pad] * 2 * spatial, group=group)
        for _ in range(int(self.random.integers(0, 3))):
            if self.chance(0.3) and y.rank == x.rank and y.fixed(1) == out:
                variance = self.constant((self.random.random(out) + 0.3).astype(np.float32))
                y = self.apply(
                    "BatchNormalization",
                    [y.name, self.weights(out), self.weights(out), self.weights(out), variance],
                    y.shapes,
                )
            else:
                shape = self.pick(
                    [(out, 1, 1)[: spatial + 1], (1, out, 1, 1)[: spatial + 2], (1, 1, 1), (), (1, 1, 1, 1, 1)]
                )
                array = (
                    np.full(shape, self.number(), np.float32)
                    if self.chance(0.3)
                    else np.round(self.random.standard_normal(shape), 2).astype(np.float32)
                )
                op = self.pick(["Add", "Mul", "Sub", "Div"])
                if op == "Div":
                    array = np.where(array == 0, np.float32(0.5), array)
                y = self.binary(op, y, self.constant(array), [shape] * FEEDS) or y
        if self.chance(0.4) and (other := self.value(test=lambda v: v.shapes == y.shapes)):
            y = self.binary("Add", y, other)
        if self.chance(0.5):
            self.apply(self.pick(["Relu", "Sigmoid", "LeakyRelu", "Tanh"]), [y.name], y.shapes)

    add_convolution.odds = 3

    def add_normalization_of_channels(self):
        """A BatchNormalization by itself, as networks have it that normalize before they convolve."""
        x = self.value(rank=(2, 3, 4), test=lambda v: v.fixed(1) and v.fixed(1) <= 16)
        if not x:
            return
        channels = x.fixed(1)
        variance = self.constant((self.random.random(channels) + 0.3).astype(np.float32))
        parameters = [self.weights(channels) for _ in range(3)] + [variance]
        y = self.apply("BatchNormalization", [x.name, *parameters], x.shapes)
        if self.chance(0.7):
            self.apply(self.pick(["Relu", "Sigmoid", "LeakyRelu"]), [y.name], y.shapes)

    def quantized(self, name, shapes, scale, signed, zero):
        """A value as bytes and as floats again. With powers of two as scales floats compute all this exactly."""
        kind = np.int8 if signed else np.uint8
        parameters = [self.constant(np.float32(scale)), self.constant(kind(zero))]
        if self.chance(0.2) and not signed and zero == 0:
            del parameters[1]
        q = self.apply("QuantizeLinear", [name] + parameters, shapes, T.INT8 if signed else T.UINT8, True)
        return self.apply("DequantizeLinear", [q.name] + parameters, shapes, exact=True)

    def add_quantized(self):
        """A convolution or product between DequantizeLinear and QuantizeLinear, or nearly so."""
        # Where the numbers before are a bit beside those of another engine, a byte may be a step beside.
        x = self.value(rank=(2, 3, 4), test=lambda v: v.exact and v.fixed(1) and v.fixed(1) <= 16)
        if not x:
            return
        signed, inner, out = self.chance(0.4), x.fixed(1), int(self.pick([3, 4, 8]))
        y = self.quantized(x.name, x.shapes, self.pick([0.125, 0.0625]), signed, self.pick([0, 0, 5, 100]))
        shape = (inner, out) if x.rank == 2 else (out, inner) + (1,) * (x.rank - 2)
        axis = 1 if x.rank == 2 else 0
        weights = self.constant(self.random.integers(-100, 101, shape).astype(np.int8))
        several = self.chance(0.5)
        scales = 2.0 ** -self.random.integers(3, 6, out if several else ()).astype(np.float32)
        w = self.apply(
            "DequantizeLinear", [weights, self.constant(scales.astype(np.float32))], [shape] * FEEDS, axis=axis
        )
        shapes = [(s[0], out) + s[2:] for s in x.shapes]
        y = self.apply("MatMul" if x.rank == 2 else "Conv", [y.name, w.name], shapes, exact=True)
        if self.chance(0.3):
            y = self.apply("Relu", [y.name], shapes, exact=True)
        self.quantized(y.name, shapes, self.pick([0.5, 0.25]), self.chance(0.4), self.pick([0, 0, 5, 100]))

    def add_quantized_movement(self):
        """What only moves elements, between DequantizeLinear and QuantizeLinear of one code, or nearly so."""
        x = self.value(rank=(2, 3, 4), test=lambda v: v.exact)
        if not x:
            return
        code = [self.pick([0.125, 0.0625]), self.chance(0.4), self.pick([0, 0, 5, 100])]
        y = self.quantized(x.name, x.shapes, *code)
        way = self.pick(["transpose", "concat", "reverse", "flatten"])
        if way == "transpose":
            perm = [int(axis) for axis in self.random.permutation(x.rank)]
            z = self.apply("Transpose", [y.name], [tuple(s[a] for a in perm) for s in x.shapes], exact=True, perm=perm)
        elif way == "concat":
            other = self.quantized(x.name, x.shapes, *code) if self.chance(0.7) else x
            shapes = [(2 * s[0],) + s[1:] for s in x.shapes]
            z = self.apply("Concat", [y.name, other.name], shapes, exact=True, axis=0)
        elif way == "reverse":
            inputs = [y.name, self.ints(-1), self.ints(-(2**31)), self.ints(1), self.ints(-1)]
            z = self.apply("Slice", inputs, x.shapes, exact=True)
        else:
            z = self.apply("Flatten", [y.name], [(s[0], int(np.prod(s[1:]))) for s in x.shapes], exact=True)
        if self.chance(0.3):
            code[0] *= self.pick([1, 2])
        for _ in range(int(self.pick([1, 1, 2]))):
            self.quantized(z.name, z.shapes, *code)

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

        def project(count=2):
            width = 4 * count
            y = self.apply("MatMul", [x.name, self.weights(8, width)], [(*s[:2], width) for s in x.shapes])
            if self.chance(0.4):
                y = self.binary("Add", y, self.weights(width), [(width,)] * FEEDS)
            y = self.apply("Reshape", [y.name, self.ints(0, 0, count, 4)], [(*s[:2], count, 4) for s in x.shapes])
            return self.apply("Transpose", [y.name], [(s[0], count, s[1], 4) for s in x.shapes], perm=[0, 2, 1, 3])

        def repeated(y):
            """The one head twice, as decoders do whose heads of queries share keys and values."""
            y = self.apply("Unsqueeze", [y.name, self.ints(2)], [(s[0], 1, 1, s[1], 4) for s in x.shapes])
            y = self.apply("Expand", [y.name, self.ints(1, 1, 2, 1, 1)], [(s[0], 1, 2, s[1], 4) for s in x.shapes])
            return self.apply("Reshape", [y.name, self.ints(0, 2, -1, 4)], heads)

        q = project()
        # A Reshape of nothing cannot tell what -1 is.
        if self.chance(0.3) and all(s[0] * s[1] > 0 for s in x.shapes):
            k, v = repeated(project(1)), repeated(project(1))
        else:
            k, v = project(), project()
        if self.chance(0.4):
            q = self.with_scalar("Mul", q, self.pick([0.5, 0.5, 0.70710678, -0.5, 0.0]))
            if q.rank != 4:
                return
        kt = self.apply("Transpose", [k.name], [(s[0], 2, 4, s[2]) for s in k.shapes], perm=[0, 1, 3, 2])
        scores = self.apply("MatMul", [q.name, kt.name], [(s[0], 2, s[2], s[2]) for s in heads])
        if self.chance(0.5):
            scores = self.with_scalar(self.pick(["Mul", "Div"]), scores, self.pick([0.5, 2.0, -0.5, 1.5]), swap=False)
            if scores.rank != 4:
                return
        safe = self.chance(0.5)
        if self.chance(0.5):
            mask = self.value(rank=(2, 3, 4), test=lambda m: all(map(self.fits, m.shapes, scores.shapes)))
            if mask and self.chance(0.6):
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

    def add_windows(self):
        """Attention in two windows whose masks differ, as Swin has it, or nearly so."""
        x = self.value(rank=(3,), test=lambda v: v.fixed(2) == 8 and v.fixed(1))
        if not x or any(s[0] == 0 or s[1] == 0 for s in x.shapes):
            return
        length = x.fixed(1)

        def project():
            y = self.apply("MatMul", [x.name, self.weights(8, 16)], [(*s[:2], 16) for s in x.shapes])
            y = self.apply(
                "Reshape", [y.name, self.ints(-1, length, 2, 2, 4)], [(s[0], length, 2, 2, 4) for s in x.shapes]
            )
            y = self.apply(
                "Transpose", [y.name], [(s[0], 2, 2, length, 4) for s in x.shapes], perm=[0, 2, 3, 1, 4]
            )
            return self.apply(
                "Reshape", [y.name, self.ints(-1, 2, length, 4)], [(2 * s[0], 2, length, 4) for s in x.shapes]
            )

        q, k, v = project(), project(), project()
        shapes = [(2 * s[0], 2, length, length) for s in x.shapes]
        kt = self.apply("Transpose", [k.name], [(s[0], 2, 4, length) for s in k.shapes], perm=[0, 1, 3, 2])
        scores = self.apply("MatMul", [q.name, kt.name], shapes)
        if self.chance(0.6):
            bias = self.pick([(1, 2, length, length), (2, length, length), (length,), (1, 1, 1, length)])
            scores = self.binary("Add", scores, self.weights(*bias), [bias] * FEEDS)
        split = [(s[0] // 2, 2, *s[1:]) for s in shapes]
        y = self.apply("Reshape", [scores.name, self.ints(-1, 2, 2, length, length)], split)
        whole = (1, 2, 1, length, length)
        mask = self.pick([whole] * 4 + [(2, 2, length, length), (1, 1, 1, length, length), (2, 1, 1, 1)])
        numbers = np.where(self.random.random(mask) < 0.3, np.float32(-100), np.float32(0)).astype(np.float32)
        y = self.binary("Add", y, self.constant(numbers), [mask] * FEEDS)
        y = self.apply("Reshape", [y.name, self.ints(-1, 2, length, length)], shapes)
        p = self.apply("Softmax", [y.name], shapes, axis=-1)
        self.apply("MatMul", [p.name, v.name], v.shapes)

    add_windows.odds = 0.6

    @staticmethod
    def fits(a, b):
        try:
            return np.broadcast_shapes(a, b) == tuple(b)
        except ValueError:
            return False

    def add_normalization(self):
        if x := self.value(rank=(2, 3, 4), test=lambda v: v.fixed(-1)):
            if self.chance(0.5) and self.opset >= 17:
                self.apply(
                    "LayerNormalization", [x.name, self.weights(x.fixed(-1)), self.weights(x.fixed(-1))], x.shapes
                )
            else:
                self.apply(
                    self.pick(["Softmax", "LogSoftmax"]),
                    [x.name],
                    x.shapes,
                    axis=int(self.random.integers(-x.rank, x.rank)),
                )
