"""Attention, its relatives, and rotary embeddings."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from .case import Case, generator
from .windows import moderate

FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE)


def heads_and_sizes(case: Case) -> tuple[int, int, int, int]:
    """Heads of queries, heads of keys, size of a head, size of a head of the values."""
    kv_heads = case.size(1, 3)
    heads = kv_heads * case.pick(1, 1, 2, 3)
    size = case.pick(1, 2, 3, 4, 8, 17)
    return heads, kv_heads, size, size if case.chance(0.6) else case.size(1, 9)


def attention_mask(case: Case, elem: int, shape: list[int], whole: bool) -> np.ndarray | None:
    """A mask of a shape that can be broadcast to `shape`; its last axis may be shorter, if not `whole`."""
    if case.chance(0.4):
        return None
    kept = [extent if case.chance(0.7) else 1 for extent in shape[:-1]] + [shape[-1]]
    # What is missing at the end counts as minus infinity, which integers do not have.
    whole = whole or case.forced.get("U", elem) not in (TensorProto.BOOL, elem)
    if not whole and shape[-1] > 1 and case.chance(0.2):
        kept[-1] = case.size(1, shape[-1])
    kept = kept[4 - case.pick(2, 3, 4, 4, 2, 1) :]
    # Other types mean nothing much, so they come up only where they are asked for.
    mask_type = case.type("U", only=None if "U" in case.forced else {TensorProto.BOOL, elem})
    if mask_type == TensorProto.BOOL:
        mask = case.rng.random(kept) < 0.7
        if kept[-1] and case.chance(0.7):
            mask[..., 0] = True  # mostly no row that sees nothing
        return mask
    mask = case.values(mask_type, kept)
    if mask_type == elem and case.chance(0.4):
        mask = np.where(case.rng.random(kept) < 0.2, np.array(-np.inf, mask.dtype), mask)
    return mask


@generator("Attention")
def attention(case: Case) -> None:
    elem = case.type("T1")
    value_type = case.type("T2", only={elem} if "T2" not in case.forced else None)
    heads, kv_heads, size, value_size = heads_and_sizes(case)
    batch, queries, keys = case.size(1, 2), case.size(1, 6), case.size(1, 7)
    cache = case.pick("none", "none", "past", "outside") if case.version >= 24 else case.pick("none", "none", "past")
    past = case.size(1, 4) if cache == "past" else 0
    total = past + keys
    packed = case.chance(0.4)
    attributes: dict = {}

    def tensor(kind: int, count: int, length: int, width: int) -> np.ndarray:
        return moderate(case, kind, [batch, length, count * width] if packed else [batch, count, length, width])

    if packed:
        attributes = {"q_num_heads": heads, "kv_num_heads": kv_heads}
    feeds = [
        tensor(elem, heads, queries, size),
        tensor(elem, kv_heads, keys, size),
        tensor(value_type, kv_heads, keys, value_size),
        attention_mask(case, elem, [batch, heads, queries, total], whole=case.version < 24),
        moderate(case, elem, [batch, kv_heads, past, size]) if past else None,
        moderate(case, value_type, [batch, kv_heads, past, value_size]) if past else None,
    ]
    if cache == "outside":
        feeds.append(case.rng.integers(0 if case.chance(0.2) else 1, keys + 1, [batch]).astype(np.int64))
    inputs = [case.input(value, constant=0.1) for value in feeds]
    attributes["is_causal"] = case.pick(None, 0, 1, 1)
    attributes["scale"] = case.pick(None, None, 0.5, 1.0)
    attributes["softcap"] = case.pick(None, None, 0.0, 2.0)
    attributes["softmax_precision"] = case.pick(None, None, None, *FLOATS)
    if case.version >= 25 and case.chance(0.4):
        attributes["left_window_size"] = case.pick(None, -1, 0, 1, 2)
        attributes["right_window_size"] = case.pick(None, -1, 0, 1, 2)
    outputs: list = [elem]
    if cache == "past" or (cache == "none" and case.chance(0.1)):
        outputs += [elem, value_type]
    if case.chance(0.4):
        outputs += [None] * (3 - len(outputs)) + [elem]
        attributes["qk_matmul_output_mode"] = case.pick(None, 0, 1, 2, 3)
    case.node(inputs, outputs=outputs, **attributes)


def modifier(case: Case, precision: int, shape: list[int]) -> onnx.GraphProto | None:
    """A graph from one tensor to one of the same shape."""
    if case.chance(0.5):
        return None
    kind = case.pick("scale", "tanh", "bias", "mask")
    info = [helper.make_tensor_value_info(name, precision, None) for name in ("x", "y")]
    dtype = helper.tensor_dtype_to_np_dtype(precision)
    if kind == "tanh":
        return helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "modifier", info[:1], info[1:])
    if kind == "scale":
        constant, nodes = np.array(0.5, dtype), [helper.make_node("Mul", ["x", "c"], ["y"])]
    elif kind == "bias":
        constant = case.rng.standard_normal(shape[-2:]).astype(dtype)
        nodes = [helper.make_node("Add", ["x", "c"], ["y"])]
    else:
        constant = np.array(-50, dtype)
        nodes = [
            helper.make_node("Less", ["x", "z"], ["m"]),
            helper.make_node("Where", ["m", "c", "x"], ["y"]),
        ]
    tensors = [onnx.numpy_helper.from_array(constant, "c"), onnx.numpy_helper.from_array(np.array(0, dtype), "z")]
    tensors = tensors if kind == "mask" else tensors[:1]
    return helper.make_graph(nodes, "modifier", info[:1], info[1:], tensors)


@generator("FlexAttention", domain="ai.onnx.preview")
def flex_attention(case: Case) -> None:
    elem = case.type("T1")
    heads, kv_heads, size, value_size = heads_and_sizes(case)
    batch, queries, keys = case.size(1, 2), case.size(1, 6), case.size(1, 7)
    precision = case.pick(None, None, *FLOATS)
    inner = precision or (TensorProto.DOUBLE if elem == TensorProto.DOUBLE else TensorProto.FLOAT)
    inputs = [
        case.input(moderate(case, elem, [batch, heads, queries, size])),
        case.input(moderate(case, elem, [batch, kv_heads, keys, size])),
        case.input(moderate(case, elem, [batch, kv_heads, keys, value_size])),
    ]
    shape = [batch, heads, queries, keys]
    case.node(
        inputs,
        outputs=[elem],
        scale=case.pick(None, 0.5),
        softmax_precision=precision,
        score_mod=modifier(case, inner, shape),
        prob_mod=modifier(case, inner, shape),
    )


@generator("LinearAttention")
def linear_attention(case: Case) -> None:
    elem = case.type("T")
    state_type = case.type("S", only={elem} if "S" not in case.forced and case.chance(0.7) else None)
    batch, length, kv_heads, size, value_size = (case.size(1, high) for high in (2, 5, 3, 6, 6))
    heads = kv_heads * case.pick(1, 1, 2, 3)
    rule = case.pick(None, "linear", "gated", "delta", "gated_delta")
    gated, corrected = rule in (None, "gated", "gated_delta"), rule in (None, "delta", "gated_delta")

    has_state = state_type != elem or case.chance()

    def values(shape: list[int], low: float | None = None, high: float | None = None, kind: int = elem) -> np.ndarray:
        return moderate(case, kind, shape) if low is None else case.values(kind, shape, low, high)

    inputs = [
        case.input(values([batch, length, heads * size])),
        case.input(values([batch, length, kv_heads * size])),
        case.input(values([batch, length, kv_heads * value_size])),
        # Without a state there is nothing but T to tell its type from.
        case.input(values([batch, kv_heads, size, value_size], kind=state_type) if has_state else None),
        case.input(values([batch, length, kv_heads * case.pick(1, size)], -2, 0) if gated else None),
        case.input(values([batch, length, case.pick(1, kv_heads)], 0, 0.5) if corrected else None),
    ]
    case.node(
        inputs,
        outputs=[elem, state_type],
        q_num_heads=heads,
        kv_num_heads=kv_heads,
        update_rule=rule,
        scale=case.pick(None, 0.0, 0.5),
        chunk_size=case.pick(None, 1, 2, 64),
    )


@generator("RotaryEmbedding")
def rotary_embedding(case: Case) -> None:
    elem = case.type("T")
    batch, length, heads, half = case.size(1, 3), case.size(1, 5), case.size(1, 4), case.size(1, 6)
    partial = case.chance(0.3)
    size = 2 * half + (2 * case.size(1, 3) if partial else 0)
    packed = case.chance()
    limit = length + case.size(0, 8)
    positions = None
    cache_shape = [batch, length, half]
    if case.chance(0.6):
        positions = case.rng.integers(0, limit, [batch, length]).astype(np.int64)
        cache_shape = [limit, half]
    angles = case.rng.uniform(-3, 3, cache_shape)
    dtype = helper.tensor_dtype_to_np_dtype(elem)
    inputs = [
        case.input(moderate(case, elem, [batch, length, heads * size] if packed else [batch, heads, length, size])),
        case.input(np.cos(angles).astype(dtype), constant=0.5),
        case.input(np.sin(angles).astype(dtype), constant=0.5),
        case.input(positions),
    ]
    case.node(
        inputs,
        outputs=[elem],
        interleaved=case.pick(None, 0, 1),
        num_heads=heads if packed else None,
        rotary_embedding_dim=2 * half if partial else case.pick(None, 0),
    )
