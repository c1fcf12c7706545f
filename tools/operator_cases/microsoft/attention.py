"""Attention and rotary embeddings."""

from __future__ import annotations

import numpy as np

from ..case import Case, generator


@generator("RotaryEmbedding", domain="com.microsoft")
def rotary(case: Case) -> None:
    dtype = case.float_type()
    batch, length, heads, half = case.size(1, 3), case.size(1, 5), case.size(1, 4), case.size(1, 6)
    partial = case.chance(0.3)
    size = 2 * half + (2 * case.size(1, 3) if partial else 0)
    limit = length + 8
    by_head = case.chance()
    shape = [batch, heads, length, size] if by_head else [batch, length, heads * size]
    if case.chance(0.4):
        positions = case.integers([1], 0, limit - length + 1)
    else:
        positions = case.integers([batch, length], 0, limit)
    inputs = [
        case.input(case.floats(shape)),
        case.input(positions),
        case.input(case.floats([limit, half]), True),
        case.input(case.floats([limit, half]), True),
    ]
    case.node(
        inputs,
        [dtype],
        interleaved=case.pick(None, 0, 1),
        num_heads=heads if partial or case.chance() else None,
        rotary_embedding_dim=2 * half if partial else None,
    )


def padding_mask(case: Case, batch: int, queries: int, keys: int) -> np.ndarray | None:
    kind = case.pick("none", "none", "length", "keys", "full")
    if kind == "length":
        return case.integers([batch], 1, keys + 1, np.int32)
    if kind == "keys":
        return case.integers([batch, keys], 0, 2, np.int32)
    if kind == "full":
        return case.integers([batch, queries, keys], 0, 2, np.int32)
    return None


@generator("MultiHeadAttention", domain="com.microsoft")
def multi_head_attention(case: Case) -> None:
    dtype = case.float_type(0.1)
    batch, queries, heads, size = case.size(1, 3), case.size(1, 6), case.size(1, 4), case.size(1, 9)
    form = case.pick("plain", "plain", "plain", "qkv", "kv", "by_head")
    unidirectional = case.pick(None, 0, 1)
    # onnxruntime counts a causal frontier in two ways where keys and queries differ in number.
    keys = queries if form == "qkv" or unidirectional else case.size(1, 7)
    value_size = size if form != "plain" or case.chance(0.6) else case.size(1, 9)
    # With a past in float16 onnxruntime reads memory that it did not write.
    past = case.size(1, 4) if form == "plain" and dtype == np.float32 and case.chance(0.4) else 0
    hidden = heads * size
    if form == "qkv":
        q, k, v = case.floats([batch, queries, heads, 3, size]), None, None
    else:
        q = case.floats([batch, queries, hidden])
        if form == "kv":
            k, v = case.floats([batch, keys, heads, 2, size]), None
        elif form == "by_head":
            k, v = case.floats([batch, heads, keys, size]), case.floats([batch, heads, keys, size])
        else:
            k, v = case.floats([batch, keys, hidden]), case.floats([batch, keys, heads * value_size])
    bias = case.floats([2 * hidden + heads * value_size]) if case.chance(0.4) else None
    total = keys + past
    mask = padding_mask(case, batch, queries, total)
    attention_bias = None
    if case.chance(0.3):
        attention_bias = case.floats([case.pick(1, batch), case.pick(1, heads), queries, total])
    pasts = [None, None]
    if past:
        pasts = [case.floats([batch, heads, past, size]), case.floats([batch, heads, past, value_size])]
    inputs = [case.input(x) for x in (q, k, v)] + [case.input(bias, True)]
    inputs += [case.input(x) for x in (mask, attention_bias, *pasts)]
    present = form in ("plain", "qkv") and (past or case.chance(0.3))
    outputs = [dtype] + ([dtype, dtype] if present else [None, None]) + [dtype if case.chance(0.2) else None]
    case.node(
        inputs,
        outputs,
        num_heads=heads,
        scale=case.pick(None, 0.5),
        unidirectional=unidirectional,
        mask_filter_value=case.pick(None, -100.0),
    )


@generator("DecoderMaskedMultiHeadAttention", domain="com.microsoft")
def decoder_attention(case: Case) -> None:
    batch, heads, size = case.size(1, 3), case.size(1, 4), case.size(1, 9)
    form = case.pick("buffers", "buffers", "past", "cross")
    past = case.size(1, 5)
    longest = past + (case.size(1, 4) if form == "buffers" else 0)
    hidden, total = heads * size, past + (form != "cross")
    vectors = [case.input(case.floats([batch, 1, hidden]))]
    if form == "cross":
        vectors += [case.input(case.floats([batch, heads, past, size])) for _ in range(2)]
    else:
        vectors += [case.input(case.floats([batch, 1, hidden])) for _ in range(2)]
    mask = case.integers([batch, total], 0, 2, np.int32) if case.chance() else None
    if mask is not None:
        mask[:, -1] = 1
    bias = case.floats([3 * hidden]) if case.chance(0.4) else None
    attention_bias = case.floats([1, heads, 1, total]) if case.chance(0.3) else None
    caches = np.zeros([2, batch, heads, longest, size], np.float32)
    caches[:, :, :, :past] = case.floats([2, batch, heads, past, size])
    keeps = form != "cross"
    inputs = vectors + [case.input(mask), case.input(attention_bias)]
    inputs += [case.input(cache if keeps else None) for cache in caches]
    inputs += [case.input(np.array([past], np.int32) if form == "buffers" else None), "", "", case.input(bias, True)]
    case.node(
        inputs,
        [np.float32] * (3 if keeps else 1),
        num_heads=heads,
        scale=case.pick(None, 0.5),
        past_present_share_buffer=1 if form == "buffers" else None,
    )


def projected_mask(case: Case, batch: int, queries: int, past: int) -> np.ndarray | None:
    keys = queries + past
    kind = case.pick("none", "length", "range", "keys", "full", "square")
    if kind == "range":
        ends = case.integers([batch], 1, keys + 1, np.int32)
        return np.concatenate([ends, (ends * case.rng.random(batch)).astype(np.int32)])
    if kind == "square":
        longest = keys + case.size(0, 3)
        return case.integers([batch, 1, longest, longest], 0, 2, np.int32)
    if kind == "length":
        return case.integers([batch], 1, keys + 1, np.int32)
    if kind == "keys":
        return case.integers([batch, keys], 0, 2, np.int32)
    if kind == "full":
        return case.integers([batch, queries, keys], 0, 2, np.int32)
    return None


@generator("Attention", domain="com.microsoft")
def attention(case: Case) -> None:
    batch, queries, heads, size, width = (
        case.size(1, 3),
        case.size(1, 6),
        case.size(1, 4),
        case.size(1, 9),
        case.size(1, 12),
    )
    past = case.size(1, 4) if case.chance(0.4) else 0
    sizes = None
    columns = 3 * heads * size
    if not past and case.chance(0.3):
        value_size = case.size(1, 9)
        sizes = [heads * size, heads * size, heads * value_size]
        columns = sum(sizes)
    unidirectional = case.pick(None, 0, 1)
    mask = projected_mask(case, batch, queries, past)
    attention_bias = (
        case.floats([case.pick(1, batch), case.pick(1, heads), queries, queries + past]) if case.chance(0.3) else None
    )
    inputs = [
        case.input(case.floats([batch, queries, width])),
        case.input(case.floats([width, columns]), True),
        case.input(case.floats([columns]), True),
        case.input(mask),
        case.input(case.floats([2, batch, heads, past, size]) if past else None),
        case.input(attention_bias),
    ]
    outputs = [np.float32] + ([np.float32] if past or (sizes is None and case.chance(0.3)) else [])
    case.node(
        inputs,
        outputs,
        num_heads=heads,
        unidirectional=unidirectional,
        qkv_hidden_sizes=sizes,
        scale=case.pick(None, 0.5),
        mask_filter_value=case.pick(None, -100.0),
    )


@generator("QAttention", domain="com.microsoft")
def quantized_attention(case: Case) -> None:
    batch, queries, heads, size, width = (
        case.size(1, 3),
        case.size(1, 6),
        case.size(1, 4),
        case.size(1, 9),
        case.size(1, 12),
    )
    past = case.size(1, 4) if case.chance(0.4) else 0
    columns = 3 * heads * size
    dtype = case.pick(np.uint8, np.int8)
    per_column = case.chance(0.3)
    scales = np.abs(case.floats([columns] if per_column else [], 0.01)) + np.float32(0.001)
    inputs = [
        case.input(case.quantized([batch, queries, width], np.uint8)),
        case.input(case.factors([width, columns], dtype), True),
        case.input(case.floats([columns]), True),
        case.input(np.float32(0.02), True),
        case.input(np.float32(scales), True),
        case.input(projected_mask(case, batch, queries, past)),
        case.input(np.uint8(case.size(0, 255)) if case.chance(0.8) else None, True),
        case.input(case.quantized([columns] if per_column else [], dtype) if case.chance(0.6) else None, True),
        case.input(case.floats([2, batch, heads, past, size]) if past else None),
    ]
    outputs = [np.float32] + ([np.float32] if past else [])
    case.node(inputs, outputs, num_heads=heads, unidirectional=case.pick(None, 0, 1))


@generator("LinearAttention", domain="com.microsoft")
def linear_attention(case: Case) -> None:
    batch, length, kv_heads, size, value_size = (
        case.size(1, 2),
        case.size(1, 5),
        case.size(1, 3),
        case.size(1, 6),
        case.size(1, 6),
    )
    heads = kv_heads * case.size(1, 2)
    rule = case.pick("linear", "gated", "delta", "gated_delta")
    inputs = [
        case.input(case.floats([batch, length, heads * size], 0.5)),
        case.input(case.floats([batch, length, kv_heads * size], 0.5)),
        case.input(case.floats([batch, length, kv_heads * value_size], 0.5)),
        case.input(case.floats([batch, kv_heads, size, value_size], 0.5) if case.chance() else None),
        case.input(
            -np.abs(case.floats([batch, length, kv_heads * case.pick(1, size)])) if rule.startswith("gated") else None
        ),
        case.input(np.abs(case.floats([batch, length, kv_heads], 0.3)) if rule.endswith("delta") else None),
    ]
    case.node(
        inputs, [np.float32] * 2, q_num_heads=heads, kv_num_heads=kv_heads, update_rule=rule, scale=case.pick(None, 0.5)
    )


@generator("CausalConvWithState", domain="com.microsoft")
def causal_conv(case: Case) -> None:
    batch, channels, length, taps = case.size(1, 3), case.size(1, 5), case.size(1, 7), case.size(1, 4)
    inputs = [
        case.input(case.floats([batch, channels, length])),
        case.input(case.floats([channels, 1, taps]), 0.8),
        case.input(case.floats([channels]) if case.chance() else None, 0.8),
        case.input(case.floats([batch, channels, taps - 1]) if case.chance() else None),
    ]
    case.node(inputs, [np.float32] * 2, activation=case.pick(None, "none", "silu", "swish"))


@generator("GroupQueryAttention", domain="com.microsoft")
def group_query_attention(case: Case) -> None:
    dtype = case.float_type(0.15)
    batch, kv_heads, size = case.size(1, 3), case.size(1, 3), 2 * case.pick(4, 8)
    heads = kv_heads * case.size(1, 3)
    prompt = case.chance()
    length = case.size(1, 6) if prompt else case.pick(1, 1, 2, 3)
    if prompt:
        past, total = 0, length
        seqlens = np.full([batch], length - 1, np.int32)
        buffer = length + case.size(0, 3) if case.chance() else 0
    else:
        past = case.size(1, 6)
        total = past + length
        # Sequences of different lengths; the longest counts.
        seqlens = case.integers([batch], length, total, np.int32)
        seqlens[0] = total - 1
        buffer = past + case.size(0, 3)
    packed = case.chance()
    query = case.floats([batch, length, (heads + (2 * kv_heads if packed else 0)) * size])
    key = None if packed else case.floats([batch, length, kv_heads * size])
    value = None if packed else case.floats([batch, length, kv_heads * size])
    pasts = [case.floats([batch, kv_heads, buffer, size]) if buffer else None for _ in range(2)]
    # Behind the rows that count, onnxruntime has zeros in a new present, and what the past has in a shared buffer.
    for past_ in pasts if buffer >= total else []:
        for image, last in enumerate(seqlens):
            past_[image, :, last + 1 :] = 0
    rotary = case.size(0, 1)
    limit = total + 3
    angles = case.rng.uniform(-3, 3, (limit, size // 2))
    positions = None
    if rotary and case.chance(0.3):
        starts = np.zeros([batch, 1]) if prompt else seqlens[:, None] + 1 - length
        positions = (starts + np.arange(length)).astype(np.int64)
    causal = case.pick(None, None, 1, 0)
    cosines, sines = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    bias = case.floats([case.pick(1, batch), case.pick(1, heads), length, total]) if case.chance(0.2) else None
    sinks = case.floats([heads]) if case.chance(0.2) else None
    norms = [case.floats([size]) for _ in range(2)] if case.chance(0.2) and dtype == np.float32 else [None, None]
    inputs = [case.input(value_) for value_ in (query, key, value, *pasts, seqlens)]
    inputs += [case.input(np.array(case.pick(total, [total]), np.int32), 0.5)]
    inputs += [case.input(cosines if rotary else None, True), case.input(sines if rotary else None, True)]
    inputs += [case.input(positions), case.input(bias), case.input(sinks, True), "", ""] + [
        case.input(norm, True) for norm in norms
    ]
    # onnxruntime leaves scores behind the end of a shorter sequence as it finds the memory.
    scores = case.pick(0, 0, 1, 2) if buffer <= total and (seqlens == total - 1).all() else 0
    case.node(
        inputs,
        [dtype] * 3 + [dtype if scores else None],
        num_heads=heads,
        kv_num_heads=kv_heads,
        do_rotary=rotary,
        causal=causal,
        qk_output=scores or None,
        rotary_interleaved=case.pick(None, 0, 1),
        local_window_size=case.pick(None, None, 2, 3) if causal != 0 else None,
        softcap=case.pick(None, None, 5.0),
        smooth_softmax=case.pick(None, 1) if sinks is None else None,
        scale=case.pick(None, 0.3),
    )
