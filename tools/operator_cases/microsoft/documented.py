"""Operators that onnxruntime computes on other devices only: what their documentation says, computed here."""

from __future__ import annotations

import math

import numpy as np

from ..case import Case, generator

erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def fast_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def wide(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.astype(np.float64) for array in arrays]


def finish(case: Case, *results: np.ndarray) -> None:
    """The results in the type of the case."""
    case.expected = [np.asarray(result).astype(case.dtype) for result in results]


@generator("GroupNorm", "SkipGroupNorm", domain="com.microsoft")
def group_norm(case: Case) -> None:
    dtype = case.float_type()
    groups, per_group, batch, height, width = (case.size(1, 4) for _ in range(5))
    channels, skips = groups * per_group, case.op == "SkipGroupNorm"
    last = skips or case.chance()
    x = case.floats([batch, height, width, channels] if last else [batch, channels, height, width])
    gamma, beta = (np.asarray(case.rng.standard_normal(channels), np.float32) for _ in range(2))
    inputs, outputs = [case.input(x), case.input(gamma, 0.8), case.input(beta, 0.8)], [dtype]
    total = x.astype(np.float64)
    if skips:
        skip = case.floats(case.pick([batch, height, width, channels], [batch, 1, 1, channels], [batch, channels]))
        bias = case.floats([channels]) if case.chance() else None
        inputs += [case.input(skip), case.input(bias, 0.8)]
        total = total + (skip if skip.ndim == 4 else skip[:, None, None]).astype(np.float64)
        total = total + (0 if bias is None else bias.astype(np.float64))
        outputs.append(dtype if case.chance() else None)
    epsilon, activation = case.pick(None, 1e-3), case.size(0, 1)
    case.node(
        inputs,
        outputs,
        activation=activation,
        groups=groups,
        channels_last=int(last) if case.chance(0.7) or not last else None,
        epsilon=epsilon,
    )
    planes = total if last else total.transpose(0, 2, 3, 1)
    parts = planes.reshape(batch, height * width, groups, per_group)
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    y = ((parts - mean) / np.sqrt(variance + (epsilon or 1e-5))).reshape(planes.shape) * gamma + beta
    y = y * sigmoid(y) if activation else y
    finish(case, *([y if last else y.transpose(0, 3, 1, 2)] + ([total] if len(outputs) > 1 and outputs[1] else [])))


@generator("BiasSplitGelu", domain="com.microsoft")
def bias_split_gelu(case: Case) -> None:
    dtype = case.float_type()
    columns = 2 * case.size(1, 8)
    x, bias = case.floats([case.size(1, 3), case.size(1, 5), columns]), case.floats([columns])
    case.node([case.input(x), case.input(bias, 0.8)], [dtype])
    left, right = np.split(sum(wide(x, bias)), 2, axis=-1)
    finish(case, left * gelu(right))


@generator("BiasAdd", domain="com.microsoft")
def bias_add(case: Case) -> None:
    dtype = case.float_type()
    shape = case.shape(3, 1, 7)
    arrays = [case.floats(shape), case.floats(shape[2:]), case.floats(shape)]
    case.node([case.input(array) for array in arrays], [dtype])
    finish(case, sum(wide(*arrays)))


@generator("GemmFastGelu", domain="com.microsoft")
def gemm_fast_gelu(case: Case) -> None:
    dtype = case.float_type()
    k, n = case.size(1, 12), case.size(1, 8)
    x, w = case.floats(case.shape(2, 1, 5) + [k], 0.5), case.floats([k, n], 0.5)
    bias = case.floats([n]) if case.chance() else None
    case.node([case.input(x), case.input(w, 0.8), case.input(bias, 0.8)], [dtype])
    product = np.matmul(*wide(x, w)) + (0 if bias is None else bias.astype(np.float64))
    finish(case, fast_gelu(product))


def convolved(
    x: np.ndarray, w: np.ndarray, pads: list[int], strides: list[int], dilations: list[int], group: int
) -> np.ndarray:
    """Channels at the end in x and the result; w is [filters, window, window, channels / group]."""
    x = np.pad(x, [(0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)])
    extents = [
        (size - (kernel - 1) * dilation - 1) // stride + 1
        for size, kernel, dilation, stride in zip(x.shape[1:3], w.shape[1:3], dilations, strides, strict=True)
    ]
    y = np.zeros([x.shape[0], *extents, w.shape[0]])
    per, filters = w.shape[3], w.shape[0] // group
    for row in range(extents[0]):
        for column in range(extents[1]):
            for i in range(w.shape[1]):
                for j in range(w.shape[2]):
                    pixel = x[:, row * strides[0] + i * dilations[0], column * strides[1] + j * dilations[1]]
                    for g in range(group):
                        part = slice(g * filters, (g + 1) * filters)
                        y[:, row, column, part] += pixel[:, g * per : (g + 1) * per] @ w[part, i, j].T
    return y


@generator("NhwcConv", "NhwcFusedConv", domain="com.microsoft")
def nhwc_conv(case: Case) -> None:
    dtype = case.float_type(0.1)
    fused = case.op == "NhwcFusedConv"
    group, per, filters = case.pick(1, 1, 2), case.size(1, 3), case.size(1, 3)
    kernel, strides, dilations = (
        [case.size(1, 3) for _ in range(2)],
        [case.size(1, 2) for _ in range(2)],
        [case.size(1, 2) for _ in range(2)],
    )
    pads = [case.size(0, 2) for _ in range(4)]
    size = [(k - 1) * d + 1 + case.size(0, 5) for k, d in zip(kernel, dilations, strict=True)]
    x = case.floats([case.size(1, 2), *size, group * per])
    w = case.floats([group * filters, *kernel, per])
    bias = case.floats([group * filters]) if case.chance() else None
    inputs = [case.input(x), case.input(w.transpose(0, 3, 1, 2) if fused else w, 0.8), case.input(bias, 0.8)]
    y = convolved(*wide(x, w), pads, strides, dilations, group) + (0 if bias is None else bias.astype(np.float64))
    attributes = {
        "pads": pads,
        "strides": strides,
        "dilations": dilations,
        "group": group,
        "kernel_shape": case.pick(None, kernel),
    }
    if fused:
        z = case.floats(y.shape) if case.chance(0.4) else None
        inputs.append(case.input(z))
        y = y + (0 if z is None else z.astype(np.float64))
        attributes["activation"] = case.pick(None, "Relu", "LeakyRelu")
        if attributes["activation"]:
            y = np.maximum(y, 0) + (0.2 * np.minimum(y, 0) if attributes["activation"] == "LeakyRelu" else 0)
        if attributes["activation"] == "LeakyRelu":
            attributes["activation_params"] = [0.2]
    case.node(inputs, [dtype], **attributes)
    finish(case, y)


@generator("RelativePositionBias", domain="com.microsoft")
def relative_position_bias(case: Case) -> None:
    dtype = case.float_type()
    both = case.chance()
    buckets, heads = 4 * case.size(2, 8), case.size(1, 4)
    table = case.floats([buckets, heads])
    queries, keys = case.size(1, 40), case.size(1, 40)
    longest = buckets + case.size(1, 100)
    case.node(
        [case.input(table, 0.5), case.input(np.array([queries])), case.input(np.array([keys]))],
        [dtype],
        is_bidirectional=int(both) if case.chance(0.7) or both else None,
        max_distance=longest,
    )
    relative = np.arange(keys)[None] - np.arange(queries)[:, None]
    count = buckets // 2 if both else buckets
    offset = np.where(relative > 0, count, 0) if both else 0
    distance = np.abs(relative) if both else np.maximum(-relative, 0)
    exact = count // 2
    far = exact + (np.log(np.maximum(distance, 1) / exact) / np.log(longest / exact) * (count - exact)).astype(int)
    bucket = offset + np.where(distance < exact, distance, np.minimum(far, count - 1))
    finish(case, table[bucket].transpose(2, 0, 1)[None])


@generator("GatedRelativePositionBias", domain="com.microsoft")
def gated_relative_position_bias(case: Case) -> None:
    dtype = case.float_type(0.1)
    batch, length, heads, size, columns = (
        case.size(1, 3),
        case.size(1, 5),
        case.size(1, 3),
        case.size(1, 6),
        2 * case.size(1, 4),
    )
    query, query_bias = case.floats([batch, length, heads * size]), case.floats([heads * size])
    relative = case.floats([1, heads, length, length])
    weight, bias, eco = case.floats([size, columns]), case.floats([columns]), case.floats([1, heads, 1, 1])
    arrays = [query, query_bias, relative, weight, bias, eco]
    case.node(
        [case.input(array, 0.0 if index in (0, 2) else 0.8) for index, array in enumerate(arrays)],
        [dtype],
        num_heads=heads,
    )
    query, query_bias, relative, weight, bias, eco = wide(*arrays)
    by_head = (query + query_bias).reshape(batch, length, heads, size).transpose(0, 2, 1, 3)
    gates = sigmoid((by_head @ weight + bias).reshape(batch, heads, length, 2, -1).sum(-1))
    finish(case, (gates[..., :1] * (gates[..., 1:] * eco - 1) + 2) * relative)


@generator("FusedMatMulActivation", domain="com.microsoft")
def fused_matmul_activation(case: Case) -> None:
    dtype = case.float_type()
    m, k, n, batch = case.size(1, 5), case.size(1, 8), case.size(1, 5), case.shape(case.size(0, 2), 1, 3)
    transposes = [case.size(0, 1) for _ in range(2)]
    a, b = case.floats(batch + [m, k]), case.floats(batch + [k, n])
    alpha, activation = (
        case.pick(None, 0.5),
        case.pick("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Softmax", "HardSigmoid"),
    )
    attributes = {
        "LeakyRelu": {"activation_alpha": 0.3},
        "HardSigmoid": {"activation_alpha": 0.3, "activation_beta": 0.4},
        "Softmax": {"activation_axis": case.pick(-1, -2)},
    }.get(activation, {})
    given = [x.swapaxes(-1, -2) if flip else x for x, flip in zip((a, b), transposes, strict=True)]
    case.node(
        [case.input(np.ascontiguousarray(x)) for x in given],
        [dtype],
        alpha=alpha,
        transA=transposes[0],
        transB=transposes[1],
        activation=activation,
        **attributes,
    )
    x = np.matmul(*wide(a, b)) * (alpha or 1)
    axis = attributes.get("activation_axis", -1)
    exponent = np.exp(x - x.max(axis, keepdims=True))
    finish(
        case,
        {
            "Relu": np.maximum(x, 0),
            "Tanh": np.tanh(x),
            "Sigmoid": sigmoid(x),
            "LeakyRelu": np.where(x < 0, 0.3 * x, x),
            "Softmax": exponent / exponent.sum(axis, keepdims=True),
            "HardSigmoid": np.clip(0.3 * x + 0.4, 0, 1),
        }[activation],
    )


@generator("BiasSoftmax", domain="com.microsoft")
def bias_softmax(case: Case) -> None:
    dtype = case.float_type()
    rank = case.size(2, 4)
    shape = case.shape(rank, 1, 6)
    axis, cut, inner = case.size(1, rank - 1), case.size(0, rank - 1), case.chance()
    if inner:
        bias = case.floats([1 if min(cut, axis) <= index < axis else size for index, size in enumerate(shape)])
    else:
        bias = case.floats(shape[cut:] if case.chance() else [1] * cut + shape[cut:])
    data = case.floats(shape)
    case.node(
        [case.input(data), case.input(bias)], [dtype], axis=case.pick(axis, axis - rank), is_inner_broadcast=int(inner)
    )
    flat = sum(wide(data, bias)).reshape(*shape[:axis], -1)
    exponents = np.exp(flat - flat.max(-1, keepdims=True))
    finish(case, (exponents / exponents.sum(-1, keepdims=True)).reshape(shape))


@generator("TorchEmbedding", domain="com.microsoft")
def torch_embedding(case: Case) -> None:
    rows, dtype = case.size(1, 9), case.pick(np.float32, np.int64, np.uint8)
    table = case.integers([rows, case.size(1, 5)], 0, 100).astype(dtype)
    indices = case.integers(case.shape(case.size(0, 3), 1, 4), 0, rows)
    case.node([case.input(table, 0.5), case.input(indices)], [dtype])
    case.expected = [table[indices]]


@generator("SparseAttention", domain="com.microsoft")
def sparse_attention(case: Case) -> None:
    """onnxruntime computes it only where past and present are the same memory, which a model alone cannot say."""
    case.float_type(0.15)
    batch, kv_heads, size, block = case.size(1, 3), case.size(1, 2), 8 * case.size(1, 2), 16
    heads = kv_heads * case.size(1, 2)
    layouts, blocks, prompt = case.pick(1, heads), case.size(2, 4), case.chance()
    capacity = block * blocks
    total = case.size(1, capacity)
    length = total if prompt else 1
    ends = np.array([case.size(1, total) for _ in range(batch)])
    ends[-1] = total
    mask = np.tril(case.rng.random((layouts, blocks, blocks)) < 0.6) | np.eye(blocks, dtype=bool)
    rows = np.concatenate([np.zeros((layouts, 1), int), mask.sum(2).cumsum(1)], axis=1)
    columns = np.full((layouts, int(mask.sum((1, 2)).max())), -1)
    for layout in range(layouts):
        found = np.nonzero(mask[layout])[1]
        columns[layout, : len(found)] = found
    parts = [case.floats([batch, length, n * size]) for n in (heads, kv_heads, kv_heads)]
    given = [np.concatenate(parts, axis=-1), None, None] if case.chance(0.3) else parts
    caches = [case.floats([batch, kv_heads, capacity, size]) for _ in range(2)]
    tables = [case.floats([capacity, size // 2]) for _ in range(2)] if case.chance(0.4) else [None, None]
    pairs, scale = case.pick(None, 0, 1), case.pick(None, 0.5)
    inputs = [case.input(part) for part in (*given, *caches)]
    inputs += [case.input(array.astype(np.int32), True) for array in (rows, columns)]
    inputs += [
        case.input(np.array([total], np.int32)),
        case.input(ends.astype(np.int32)),
        *(case.input(t, True) for t in tables),
    ]
    case.node(
        inputs,
        [case.dtype] * 3,
        num_heads=heads,
        kv_num_heads=kv_heads,
        sparse_block_size=block,
        do_rotary=int(tables[0] is not None),
        rotary_interleaved=pairs,
        scale=scale,
    )
    query, key, value = (
        part.astype(np.float64).reshape(batch, length, -1, size).transpose(0, 2, 1, 3) for part in parts
    )
    keys, values = wide(*caches)
    y = np.zeros([batch, heads, length, size])
    for image in range(batch):
        start = 0 if prompt else ends[image] - length
        places = start + np.arange(length)
        if tables[0] is not None:
            query[image], key[image] = (rotated(x[image], *wide(*tables), places, bool(pairs)) for x in (query, key))
        keys[image, :, places], values[image, :, places] = key[image].swapaxes(0, 1), value[image].swapaxes(0, 1)
        # Past and present are the same memory: behind the rows that count lies what the past has there.
        for head in range(heads):
            seen = np.arange(capacity)[None] <= places[:, None]
            seen &= mask[head % layouts][(places // block)[:, None], np.arange(capacity)[None] // block]
            seen &= np.arange(capacity)[None] < ends[image]
            scores = query[image, head] @ keys[image, head * kv_heads // heads].T * (scale or 1 / np.sqrt(size))
            scores = np.where(seen, scores, -np.inf)
            peak = np.where(seen.any(1), scores.max(1), 0)
            weights = np.where(seen, np.exp(scores - peak[:, None]), 0)
            weights /= np.maximum(weights.sum(1, keepdims=True), 1e-30)
            y[image, head] = weights @ values[image, head * kv_heads // heads]
    finish(case, y.transpose(0, 2, 1, 3).reshape(batch, length, -1), keys, values)


def rotated(x: np.ndarray, cosines: np.ndarray, sines: np.ndarray, places: np.ndarray, pairs: bool) -> np.ndarray:
    """x [heads, length, size] turned by the angles of the positions."""
    half = x.shape[-1] // 2
    first, second = (x[..., 0::2], x[..., 1::2]) if pairs else (x[..., :half], x[..., half:])
    c, s = cosines[places][None], sines[places][None]
    parts = [c * first - s * second, s * first + c * second]
    return np.stack(parts, axis=-1).reshape(x.shape) if pairs else np.concatenate(parts, axis=-1)
