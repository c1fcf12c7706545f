"""Attention in NumPy and double precision, by the specification."""

from __future__ import annotations

import numpy as np

from .case import Case
from .plain_layers import double, results


def heads_first(x: np.ndarray, heads: int | None) -> np.ndarray:
    """(batch, heads, length, size), also of a packed tensor."""
    if x.ndim == 4:
        return x
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def visible(case: Case, batch: int, queries: int, keys: int, past: int) -> np.ndarray:
    """Which keys each query may see but for the mask: (batch, 1, queries, keys)."""
    lengths = case.operand(6)
    if lengths is None:
        offsets = np.full(batch, past)
    else:
        offsets = np.asarray(lengths).reshape(-1) - queries
    place = np.arange(queries)[None, :, None] + offsets[:, None, None]
    key = np.arange(keys)[None, None, :]
    seen = np.ones([batch, queries, keys], bool)
    if case.attribute("is_causal", 0):
        seen &= key <= place
    left, right = case.attribute("left_window_size", -1), case.attribute("right_window_size", -1)
    if left >= 0:
        seen &= key >= place - left
    if right >= 0:
        seen &= key <= place + right
    if lengths is not None:
        seen &= key < np.asarray(lengths).reshape(-1, 1, 1)
    return seen[:, None]


def attention(case: Case) -> list[np.ndarray]:
    q, k, v, _, past_key, past_value = (double(case, index) for index in range(6))
    packed = q.ndim == 3
    q = heads_first(q, case.attribute("q_num_heads"))
    k, v = (heads_first(x, case.attribute("kv_num_heads")) for x in (k, v))
    past = 0
    if past_key is not None:
        past = past_key.shape[2]
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    present = (k, v)
    repeats = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeats, axis=1), np.repeat(v, repeats, axis=1)
    scale = case.attribute("scale")
    scores = q @ k.swapaxes(2, 3) * (1 / np.sqrt(q.shape[3]) if scale is None else scale)
    shown = [scores]
    cap = case.attribute("softcap", 0.0)
    scores = cap * np.tanh(scores / cap) if cap > 0 else scores
    shown.append(scores)
    mask = case.operand(3)
    bias = np.where(visible(case, q.shape[0], q.shape[2], k.shape[2], past), 0.0, -np.inf)
    if mask is not None:
        added = np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
        short = k.shape[2] - added.shape[-1]
        bias = bias + np.pad(added, [(0, 0)] * (added.ndim - 1) + [(0, short)], constant_values=-np.inf)
    scores = scores + bias
    shown.append(scores)
    blind = np.isneginf(np.broadcast_to(bias, scores.shape).max(axis=-1, keepdims=True))
    powers = np.exp(scores - np.where(blind, 0, scores.max(axis=-1, keepdims=True)))
    weights = np.where(blind, 0, powers / np.where(blind, 1, powers.sum(axis=-1, keepdims=True)))
    shown.append(weights)
    y = weights @ v
    if packed:
        y = y.swapaxes(1, 2).reshape(y.shape[0], y.shape[2], -1)
    return results(case, y, *present, shown[case.attribute("qk_matmul_output_mode", 0)])


def projected_bias(mask: np.ndarray | None, batch: int, queries: int, past: int, causal: bool) -> np.ndarray:
    """What Attention of com.microsoft adds to its scores, (batch, 1, queries, keys): -10000 for what a mask hides, the
    least number for what follows a query."""
    keys = past + queries
    bias = np.zeros([batch, queries, keys])
    place = np.arange(keys)
    if mask is None:
        pass
    elif mask.ndim == 1:  # ends, then, if there are as many again, starts
        hidden = place >= mask[:batch, None]
        if mask.size == 2 * batch:
            hidden = hidden | (place < mask[batch:, None])
        bias += np.where(hidden, -10000.0, 0.0)[:, None]
    elif mask.ndim == 4:
        bias += np.where(mask[:, 0, past : past + queries, :keys] > 0, 0.0, -10000.0)
    else:
        bias += np.where(mask > 0, 0.0, -10000.0).reshape(batch, -1, keys)
    if causal:
        bias[:, np.arange(queries)[:, None] + past < place] = np.finfo(np.float32).min
    return bias[:, None]


def quantized_attention(case: Case) -> list[np.ndarray]:
    """QAttention of com.microsoft: an exact product of bytes, then attention in double precision."""
    x, weights, bias, x_scale, w_scale = (double(case, index) for index in range(5))
    x_zero, w_zero = (0.0 if (zero := double(case, index)) is None else zero for index in (6, 7))
    heads, past = case.attribute("num_heads"), double(case, 8)
    projected = np.matmul(x - x_zero, weights - w_zero) * (x_scale * w_scale) + bias
    q, k, v = (heads_first(part, heads) for part in np.split(projected, 3, axis=-1))
    length = 0
    if past is not None:
        length = past.shape[3]
        k, v = np.concatenate([past[0], k], axis=2), np.concatenate([past[1], v], axis=2)
    causal = bool(case.attribute("unidirectional", 0))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
    scores = scores + projected_bias(case.operand(5), q.shape[0], q.shape[2], length, causal)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y = (powers / powers.sum(axis=-1, keepdims=True)) @ v
    return results(case, y.swapaxes(1, 2).reshape(x.shape[0], x.shape[1], -1), np.stack([k, v]))


def linear_attention(case: Case) -> list[np.ndarray]:
    query, key, value, state, decay, beta = (double(case, index) for index in range(6))
    heads, shared = case.attribute("q_num_heads"), case.attribute("kv_num_heads")
    rule = case.attribute("update_rule", "gated_delta")
    batch, length = query.shape[:2]
    q, k, v = (x.reshape(batch, length, count, -1) for x, count in ((query, heads), (key, shared), (value, shared)))
    s = np.zeros([batch, shared, k.shape[3], v.shape[3]]) if state is None else state
    scale = case.attribute("scale", 0.0) or 1 / np.sqrt(q.shape[3])
    y = np.zeros([batch, length, heads, v.shape[3]])
    for step in range(length):
        if rule.startswith("gated"):
            s = s * np.exp(decay[:, step].reshape(batch, shared, -1, 1))
        update = v[:, step]
        if rule.endswith("delta"):
            update = (update - np.einsum("bhk,bhkv->bhv", k[:, step], s)) * beta[:, step].reshape(batch, -1, 1)
        s = s + k[:, step][..., None] * update[..., None, :]
        y[:, step] = scale * np.einsum("bhk,bhkv->bhv", q[:, step], np.repeat(s, heads // shared, axis=1))
    return results(case, y.reshape(batch, length, -1), s)
