"""Layers in NumPy and double precision, by the specification, for cases on which an oracle is wrong or missing."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from onnx import TensorProto as T

from .case import Case, NotApplicable
from .values import dtype_of, limits


def double(case: Case, index: int) -> np.ndarray | None:
    """An input in double precision; None if it is absent."""
    value = case.operand(index)
    return None if value is None else np.asarray(value).astype(np.float64)


def results(case: Case, *values: Any) -> list[np.ndarray]:
    """The values of the outputs, in their declared types, without those that the case does not want."""
    assert case.under_test is not None
    wanted = [value for name, value in zip(case.under_test.output, values) if name]
    types = [dtype_of(info.type.tensor_type.elem_type) for info in case.outputs]
    return [np.asarray(value).astype(dtype) for value, dtype in zip(wanted, types, strict=True)]


class Window:
    """kernel_shape, strides, dilations, pads, auto_pad and ceil_mode of a case, with the defaults filled in."""

    def __init__(self, case: Case, extents: tuple[int, ...], kernel: tuple[int, ...]) -> None:
        rank = len(extents)
        self.kernel, self.extents = kernel, extents
        self.strides = list(case.attribute("strides") or [1] * rank)
        self.dilations = list(case.attribute("dilations") or [1] * rank)
        pads = list(case.attribute("pads") or [0] * (2 * rank))
        mode = case.attribute("auto_pad", "NOTSET")
        self.begins, self.ends, self.outputs = [], [], []
        for axis in range(rank):
            reach = (kernel[axis] - 1) * self.dilations[axis] + 1
            stride, extent, begin, end = self.strides[axis], extents[axis], pads[axis], pads[axis + rank]
            if mode.startswith("SAME"):
                output = -(-extent // stride)
                total = max(0, (output - 1) * stride + reach - extent)
                begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
                end = total - begin
            elif mode == "VALID":
                begin = end = 0
                output = (extent - reach) // stride + 1
            elif case.attribute("ceil_mode", 0):
                output = -(-(extent + begin + end - reach) // stride) + 1
                output -= (output - 1) * stride >= extent + begin  # the last window starts inside
            else:
                output = (extent + begin + end - reach) // stride + 1
            self.begins.append(begin)
            self.ends.append(end)
            self.outputs.append(output)

    def rows(self, axis: int, place: int) -> list[int]:
        """Positions of a window on an axis, also those outside."""
        start = place * self.strides[axis] - self.begins[axis]
        return [start + tap * self.dilations[axis] for tap in range(self.kernel[axis])]


def windows_of(window: Window) -> Any:
    """Every place of the window, with the positions it covers inside the image, and how many count with the pads."""
    rank = len(window.kernel)
    for place in itertools.product(*(range(count) for count in window.outputs)):
        rows = [window.rows(axis, place[axis]) for axis in range(rank)]
        inside = [[row for row in rows[axis] if 0 <= row < window.extents[axis]] for axis in range(rank)]
        counted = math.prod(
            sum(-window.begins[axis] <= row < window.extents[axis] + window.ends[axis] for row in rows[axis])
            for axis in range(rank)
        )
        yield place, inside, counted


def pool(case: Case) -> list[np.ndarray]:
    """MaxPool, AveragePool, LpPool."""
    x = np.asarray(case.operand(0))
    wide = x.astype(np.float64)
    window = Window(case, x.shape[2:], tuple(case.attribute("kernel_shape")))
    y = np.zeros([*x.shape[:2], *window.outputs])
    indices = np.zeros(y.shape, np.int64)
    p = case.attribute("p", 2)
    order = "F" if case.attribute("storage_order", 0) else "C"
    area = math.prod(x.shape[2:])
    for place, inside, counted in windows_of(window):
        if not all(inside):
            raise NotApplicable("a window of nothing but pads")
        taken = wide[(slice(None), slice(None), *np.ix_(*inside))].reshape(*x.shape[:2], math.prod(map(len, inside)))
        target = (slice(None), slice(None), *place)
        if case.op == "MaxPool":
            grid = np.meshgrid(*inside, indexing="ij")
            flat = np.ravel_multi_index([axis.ravel() for axis in grid], x.shape[2:], order=order)
            y[target] = taken.max(axis=-1)
            planes = np.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2]) * area
            indices[target] = flat[taken.argmax(axis=-1)] + planes
        elif case.op == "AveragePool":
            y[target] = taken.sum(axis=-1) / (counted if case.attribute("count_include_pad", 0) else taken.shape[-1])
        else:
            y[target] = (np.abs(taken) ** p).sum(axis=-1) ** (1 / p)
    return results(case, y, indices)


def global_pool(case: Case) -> list[np.ndarray]:
    x = double(case, 0)
    axes = tuple(range(2, x.ndim))
    if case.op == "GlobalMaxPool":
        return results(case, x.max(axis=axes, keepdims=True))
    if case.op == "GlobalAveragePool":
        return results(case, x.mean(axis=axes, keepdims=True))
    p = case.attribute("p", 2)
    return results(case, (np.abs(x) ** p).sum(axis=axes, keepdims=True) ** (1 / p))


def convolved(case: Case, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The convolution of a batch of images; weights are (outputs, inputs of a group, kernel…)."""
    rank = x.ndim - 2
    window = Window(case, x.shape[2:], w.shape[2:])
    groups = case.attribute("group", 1)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(window.begins, window.ends)])
    y = np.zeros([x.shape[0], w.shape[0], *window.outputs])
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for tap in itertools.product(*(range(extent) for extent in w.shape[2:])):
        view = padded[
            (
                slice(None),
                slice(None),
                *(
                    slice(
                        start := tap[axis] * window.dilations[axis],
                        start + (window.outputs[axis] - 1) * window.strides[axis] + 1,
                        window.strides[axis],
                    )
                    for axis in range(rank)
                ),
            )
        ]
        for group in range(groups):
            weights = w[(slice(group * outputs, (group + 1) * outputs), slice(None), *tap)]
            part = view[:, group * inputs : (group + 1) * inputs]
            y[:, group * outputs : (group + 1) * outputs] += np.einsum("nc...,mc->nm...", part, weights)
    return y


def by_channel(value: np.ndarray | None, rank: int, axis: int) -> np.ndarray | float:
    """A parameter, one for all or one a channel, in a shape for a tensor with its channels at `axis`."""
    if value is None:
        return 0.0
    if value.size == 1:
        return value.reshape([])
    return value.reshape([-1 if at == axis else 1 for at in range(rank)])


def conv_integer(case: Case) -> list[np.ndarray]:
    x, w, x_zero, w_zero = (double(case, index) for index in range(4))
    return results(case, convolved(case, x - (0 if x_zero is None else x_zero), w - by_channel(w_zero, w.ndim, 0)))


def quantized(case: Case, value: np.ndarray, zero: np.ndarray) -> list[np.ndarray]:
    """Rounded, moved by the zero point and saturated."""
    elem = case.outputs[0].type.tensor_type.elem_type
    if elem not in (T.INT8, T.UINT8):
        return results(case, value)
    low, high = limits(elem)
    return results(case, np.clip(np.rint(value) + zero, low, high))


def quantized_conv(case: Case) -> list[np.ndarray]:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (double(case, index) for index in range(9))
    sums = convolved(case, x - x_zero, w - by_channel(w_zero, w.ndim, 0)) + by_channel(bias, w.ndim, 1)
    return quantized(case, sums * (x_scale * by_channel(w_scale, w.ndim, 1) / y_scale), y_zero)


def rows_of(value: np.ndarray | None, factor: np.ndarray) -> np.ndarray | float:
    """A parameter of the left factor: one for all, or one a row."""
    if value is None:
        return 0.0
    return value[:, None] if value.ndim == 1 and value.size != 1 and factor.ndim > 1 else value


def matmul_integer(case: Case) -> list[np.ndarray]:
    a, b, a_zero, b_zero = (double(case, index) for index in range(4))
    return results(case, np.matmul(a - rows_of(a_zero, a), b - (0.0 if b_zero is None else b_zero)))


def quantized_matmul(case: Case) -> list[np.ndarray]:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (double(case, index) for index in range(8))
    left = (a - rows_of(a_zero, a)) * rows_of(a_scale, a)
    product = np.matmul(left, (b - b_zero) * b_scale) / y_scale
    # Scales of one element add no axis.
    return [array.reshape(np.matmul(a, b).shape) for array in quantized(case, product, y_zero)]


def conv_transpose(case: Case) -> list[np.ndarray]:
    x, w, bias = (double(case, index) for index in range(3))
    rank = x.ndim - 2
    strides = list(case.attribute("strides") or [1] * rank)
    dilations = list(case.attribute("dilations") or [1] * rank)
    padding = list(case.attribute("output_padding") or [0] * rank)
    pads = list(case.attribute("pads") or [0] * (2 * rank))
    mode, shape = case.attribute("auto_pad", "NOTSET"), case.attribute("output_shape")
    whole = [
        strides[axis] * (x.shape[axis + 2] - 1) + padding[axis] + (w.shape[axis + 2] - 1) * dilations[axis] + 1
        for axis in range(rank)
    ]
    if mode == "VALID":
        pads = [0] * (2 * rank)
    if shape or mode.startswith("SAME"):
        wanted = shape or [x.shape[axis + 2] * strides[axis] for axis in range(rank)]
        for axis in range(rank):
            total = whole[axis] - wanted[axis]
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
            pads[axis], pads[axis + rank] = begin, total - begin
    groups = case.attribute("group", 1)
    inputs, outputs = w.shape[0] // groups, w.shape[1]
    full = np.zeros([x.shape[0], outputs * groups, *whole])
    for tap in itertools.product(*(range(extent) for extent in w.shape[2:])):
        target = [
            slice(
                start := tap[axis] * dilations[axis], start + strides[axis] * (x.shape[axis + 2] - 1) + 1, strides[axis]
            )
            for axis in range(rank)
        ]
        for group in range(groups):
            part = x[:, group * inputs : (group + 1) * inputs]
            weights = w[(slice(group * inputs, (group + 1) * inputs), slice(None), *tap)]
            full[(slice(None), slice(group * outputs, (group + 1) * outputs), *target)] += np.einsum(
                "nc...,cm->nm...", part, weights
            )
    # Negative pads add zeros.
    added = [(max(0, -pads[axis]), max(0, -pads[axis + rank])) for axis in range(rank)]
    cut = [slice(max(0, pads[axis]), whole[axis] - max(0, pads[axis + rank])) for axis in range(rank)]
    y = np.pad(full[(slice(None), slice(None), *cut)], [(0, 0), (0, 0), *added])
    return results(case, y + by_channel(bias, y.ndim, 1))


def deformable(case: Case) -> list[np.ndarray]:
    x, w, offset, bias, mask = (double(case, index) for index in range(5))
    window = Window(case, x.shape[2:], w.shape[2:])
    taps = math.prod(w.shape[2:])
    sharing = case.attribute("offset_group", 1)
    n, channels = x.shape[:2]
    shifts = offset.reshape(n, sharing, taps, 2, *window.outputs)
    weights = (
        np.ones([n, sharing, taps, *window.outputs])
        if mask is None
        else mask.reshape(n, sharing, taps, *window.outputs)
    )
    columns = np.zeros([n, channels, taps, *window.outputs])
    for image, channel, tap in itertools.product(range(n), range(channels), range(taps)):
        of = channel // (channels // sharing)
        row, column = divmod(tap, w.shape[3])
        for place in itertools.product(*map(range, window.outputs)):
            at = [
                window.rows(axis, place[axis])[(row, column)[axis]] + shifts[(image, of, tap, axis, *place)]
                for axis in range(2)
            ]
            sampled = bilinear(x[image, channel], at[0], at[1])
            columns[(image, channel, tap, *place)] = sampled * weights[(image, of, tap, *place)]
    groups = case.attribute("group", 1)
    split = columns.reshape(n, groups, channels // groups, taps, *window.outputs)
    kernels = w.reshape(groups, w.shape[0] // groups, w.shape[1], taps)
    y = np.einsum("ngcthw,gmct->ngmhw", split, kernels).reshape(n, w.shape[0], *window.outputs)
    return results(case, y + by_channel(bias, 4, 1))


def bilinear(image: np.ndarray, y: float, x: float) -> float:
    """Between four pixels; those outside are 0."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def gemm(case: Case) -> list[np.ndarray]:
    a, b, c = (double(case, index) for index in range(3))
    a, b = a.T if case.attribute("transA", 0) else a, b.T if case.attribute("transB", 0) else b
    y = case.attribute("alpha", 1.0) * (a @ b)
    return results(case, y if c is None else y + case.attribute("beta", 1.0) * c)


def determinant(case: Case) -> list[np.ndarray]:
    return results(case, np.linalg.det(double(case, 0)))


# Normalizations


def softmax_of_rows(case: Case) -> list[np.ndarray]:
    """Softmax, LogSoftmax and Hardmax: before version 13 of the rows of a matrix whose columns begin at the axis."""
    x = double(case, 0)
    if case.version >= 13:
        axis = case.attribute("axis", -1)
        moved = x - x.max(axis=axis, keepdims=True)
        return results(case, moved - np.log(np.exp(moved).sum(axis=axis, keepdims=True)))
    axis = case.attribute("axis", 1) % x.ndim if x.ndim > 1 or case.attribute("axis") is not None else x.ndim
    rows = x.reshape(math.prod(x.shape[:axis]), -1) if x.size else x.reshape(1, 0)
    if x.size == 0:
        return results(case, x)
    if case.op == "Hardmax":
        return results(case, np.eye(rows.shape[1])[rows.argmax(axis=1)].reshape(x.shape))
    moved = rows - rows.max(axis=1, keepdims=True)
    sums = np.exp(moved).sum(axis=1, keepdims=True)
    y = moved - np.log(sums) if case.op == "LogSoftmax" else np.exp(moved) / sums
    return results(case, y.reshape(x.shape))


def local_response(case: Case) -> list[np.ndarray]:
    x = double(case, 0)
    size = case.attribute("size")
    before, after = (size - 1) // 2, size // 2
    channels = x.shape[1]
    sums = np.stack(
        [(x[:, max(0, c - before) : min(channels, c + after + 1)] ** 2).sum(axis=1) for c in range(channels)], axis=1
    )
    base = case.attribute("bias", 1.0) + case.attribute("alpha", 1e-4) / size * sums
    return results(case, x / base ** case.attribute("beta", 0.75))


def lp_normalization(case: Case) -> list[np.ndarray]:
    x = double(case, 0)
    p = case.attribute("p", 2)
    norm = (np.abs(x) ** p).sum(axis=case.attribute("axis", -1), keepdims=True) ** (1 / p)
    return results(case, np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm)))


def batch_normalization(case: Case) -> list[np.ndarray]:
    """Every version, for inference, and for training with the outputs of version 14 on; in any mixture of types."""
    x, scale, bias, mean, variance = (double(case, index) for index in range(5))
    outputs = []
    per_element = case.version <= 7 and not case.attribute("spatial", 1)
    shape = [1, *x.shape[1:]] if per_element else [1, -1] + [1] * (x.ndim - 2)
    if case.attribute("training_mode", 0) or (case.version < 7 and not case.attribute("is_test", 0)):
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        momentum = case.attribute("momentum", 0.9)
        now = [x.mean(axis=axes), x.var(axis=axes)]
        outputs = [old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), now)]
        mean, variance = now
    root = np.sqrt(variance + case.attribute("epsilon", 1e-5))
    y = (x - mean.reshape(shape)) / root.reshape(shape) * scale.reshape(shape) + bias.reshape(shape)
    return results(case, y, *outputs)


def rms_normalization(case: Case) -> list[np.ndarray]:
    x, scale = double(case, 0), double(case, 1)
    axes = tuple(range(case.attribute("axis", -1) % x.ndim, x.ndim))
    root = np.sqrt((x * x).mean(axis=axes, keepdims=True) + case.attribute("epsilon", 1e-5))
    return results(case, x / root * scale)


def mean_variance(case: Case) -> list[np.ndarray]:
    x = double(case, 0)
    axes = tuple(case.attribute("axes") or (0, 2, 3))
    moved = x - x.mean(axis=axes, keepdims=True)
    return results(case, moved / (np.sqrt((moved * moved).mean(axis=axes, keepdims=True)) + float(np.float32(1e-9))))


def instance_normalization(case: Case) -> list[np.ndarray]:
    x, scale, bias = (double(case, index) for index in range(3))
    axes = tuple(range(2, x.ndim))
    moved = x - x.mean(axis=axes, keepdims=True)
    root = np.sqrt((moved * moved).mean(axis=axes, keepdims=True) + case.attribute("epsilon", 1e-5))
    return results(case, moved / root * by_channel(scale, x.ndim, 1) + by_channel(bias, x.ndim, 1))


def group_normalization(case: Case) -> list[np.ndarray]:
    x, scale, bias = (double(case, index) for index in range(3))
    groups = case.attribute("num_groups")
    rows = x.reshape(x.shape[0], groups, -1)
    moved = rows - rows.mean(axis=2, keepdims=True)
    moved /= np.sqrt((moved * moved).mean(axis=2, keepdims=True) + case.attribute("epsilon", 1e-5))
    if case.version == 18:
        scale, bias = (np.repeat(value, x.shape[1] // groups) for value in (scale, bias))
    return results(case, moved.reshape(x.shape) * by_channel(scale, x.ndim, 1) + by_channel(bias, x.ndim, 1))


# Losses


def negative_log_likelihood(case: Case) -> list[np.ndarray]:
    x, target, weight = double(case, 0), np.asarray(case.operand(1)).astype(np.int64), double(case, 2)
    ignored = case.attribute("ignore_index")
    counts = np.ones(target.shape, bool) if ignored is None else target != ignored
    safe = np.where(counts, target, 0)
    weights = counts * (1.0 if weight is None else weight[safe])
    losses = -np.take_along_axis(x, safe[:, None], axis=1)[:, 0] * weights
    how = case.attribute("reduction", "mean")
    return results(case, losses if how == "none" else losses.sum() / (weights.sum() if how == "mean" else 1))


# Signals


def mel_weights(case: Case) -> list[np.ndarray]:
    bins, length, rate = (int(double(case, index)) for index in range(3))
    low, high = (2595 * np.log10(1 + double(case, index) / 700) for index in (3, 4))
    mels = np.arange(bins + 2) * ((high - low) / (bins + 2)) + low
    edges = ((length + 1) * (700 * (10 ** (mels / 2595) - 1)) // rate).astype(int)
    y = np.zeros([length // 2 + 1, bins])
    for index, (left, middle, right) in enumerate(zip(edges, edges[1:], edges[2:])):
        if left == middle:
            y[middle, index] = 1
        for place in range(left, middle + 1 if left < middle else left):
            y[place, index] = (place - left) / (middle - left)
        for place in range(middle, right):
            y[place, index] = (right - place) / (right - middle)
    return results(case, y)
