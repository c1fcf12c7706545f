"""Mixtures of experts, computed here too: onnxruntime leaves out some forms of quantized ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Case, generator

Layer = tuple[np.ndarray, np.ndarray]  # weights [experts, rows, columns], bias [experts, rows]


def unpacked(codes: np.ndarray, bits: int) -> np.ndarray:
    """The integers of bytes, the lowest bits first."""
    parts = [codes >> (bits * index) & ((1 << bits) - 1) for index in range(8 // bits)]
    return np.stack(parts, axis=-1).reshape(*codes.shape[:-1], -1).astype(np.float64)


def float_layer(case: Case, inputs: list[str], experts: int, rows: int, columns: int) -> Layer:
    weights = case.floats([experts, rows, columns], 0.2)
    bias = case.floats([experts, rows]) if case.chance() else None
    inputs += [case.input(weights, 0.8), case.input(bias, 0.8)]
    return weights.astype(np.float64), np.zeros([experts, rows]) if bias is None else bias.astype(np.float64)


def quantized_layer(
    case: Case,
    inputs: list[str],
    zeros: list[str],
    experts: int,
    rows: int,
    columns: int,
    bits: int,
    block: int | None,
    has_zeros: bool,
) -> Layer:
    blocks = [columns // block] if block else []
    codes = case.quantized([experts, rows, columns * bits // 8], np.uint8)
    scales = np.abs(case.floats([experts, rows] + blocks, 0.02))
    bias = case.floats([experts, rows]) if case.chance() else None
    inputs += [case.input(codes, True), case.input(scales, True), case.input(bias, True)]
    wide = scales.astype(np.float64)
    wide = np.repeat(wide, block, axis=-1) if block else wide[..., None]
    middle: Any = 1 << (bits - 1)
    if has_zeros:
        packed = case.quantized(
            [experts, rows, -(-blocks[0] * bits // 8)] if block else [experts, rows * bits // 8], np.uint8
        )
        zeros.append(case.input(packed, True))
        middle = (
            np.repeat(unpacked(packed, bits)[..., : blocks[0]], block, axis=-1)
            if block
            else unpacked(packed, bits)[..., None]
        )
    else:
        zeros.append("")
    weights = (unpacked(codes, bits) - middle) * wide
    return weights, np.zeros([experts, rows]) if bias is None else bias.astype(np.float64)


def activated(x: np.ndarray, gate: np.ndarray | None, attributes: dict[str, Any]) -> np.ndarray:
    kind, fusion = attributes["activation_type"], attributes["swiglu_fusion"]
    if kind == "swiglu":
        limit = attributes["swiglu_limit"] or np.inf
        if fusion == 1:
            x, gate = x[0::2], x[1::2]
        elif fusion == 2:
            x, gate = np.split(x, 2)
        x, gate = np.minimum(x, limit), np.clip(gate, -limit, limit)
        return x / (1 + np.exp(-attributes["activation_alpha"] * x)) * (gate + attributes["activation_beta"])
    y = {
        "relu": lambda: np.maximum(x, 0),
        "silu": lambda: x / (1 + np.exp(-x)),
        "identity": lambda: x,
        # onnxruntime takes the approximation by tanh.
        "gelu": lambda: x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    }[kind]()
    return y if gate is None else y * gate


def mixed(
    tokens: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None,
    layers: list[Layer | None],
    attributes: dict[str, Any],
    chosen_only: bool,
) -> np.ndarray:
    """The sum of the chosen experts. `chosen_only`: the softmax of the scores is that of the chosen ones."""
    y = np.zeros_like(tokens)
    first, second, third = layers
    for token, x in enumerate(tokens):
        chosen = np.argsort(-scores[token], kind="stable")[: attributes["k"]]
        if weights is not None:
            shares = weights[token, chosen]
            shares = shares / shares.sum() if attributes["normalize_routing_weights"] else shares
        else:
            exponents = np.exp(scores[token] - scores[token].max())
            shares = exponents[chosen] / (exponents[chosen] if chosen_only else exponents).sum()
        for expert, share in zip(chosen, shares, strict=True):
            inner = first[0][expert] @ x + first[1][expert]
            gate = third[0][expert] @ x + third[1][expert] if third else None
            y[token] += share * (second[0][expert] @ activated(inner, gate, attributes) + second[1][expert])
    return y


@generator("MoE", "QMoE", domain="com.microsoft")
def mixture(case: Case) -> None:
    dtype = case.float_type(0.1)
    quantized = case.op == "QMoE"
    experts, hidden, inner, tokens = case.size(2, 5), 16 * case.size(1, 3), 16 * case.size(1, 3), case.size(1, 7)
    activation = case.pick("relu", "gelu", "silu", "identity", "swiglu")
    fusion = case.pick(0, 1, 1, 2) if activation == "swiglu" else 0
    gated = (activation == "silu" and case.chance(0.3)) or (activation == "swiglu" and not fusion)
    extents = [(inner * (2 if fusion else 1), hidden), (hidden, inner), (inner, hidden)]
    x, scores = case.floats([tokens, hidden]), case.floats([tokens, experts])
    inputs = [case.input(x if case.chance() else x[None]), case.input(scores)]
    attributes: dict[str, Any] = {
        "k": case.size(1, 2),
        "activation_type": activation,
        "normalize_routing_weights": case.size(0, 1),
        "swiglu_fusion": fusion,
        "swiglu_limit": case.pick(None, 7.0) if activation == "swiglu" else None,
        "activation_alpha": 1.7 if activation == "swiglu" else None,
        "activation_beta": 1.0 if activation == "swiglu" else None,
    }
    layers: list[Layer | None] = []
    zeros: list[str] = []
    weights = None
    bits, block, has_zeros = case.pick(2, 4, 8), case.pick(None, None, 16), case.chance(0.3)
    for rows, columns in extents[: 3 if gated else 2]:
        if quantized:
            layers.append(quantized_layer(case, inputs, zeros, experts, rows, columns, bits, block, has_zeros))
        else:
            layers.append(float_layer(case, inputs, experts, rows, columns))
    if quantized:
        inputs += [""] * (0 if gated else 3) + zeros + [""] * (0 if gated else 1)
        if case.chance(0.3):
            weights = np.abs(case.floats([tokens, experts])) + np.asarray(0.1, dtype)
            inputs.append(case.input(weights))
        attributes |= {"expert_weight_bits": bits, "block_size": block}
    node = case.node(inputs, [dtype], **attributes)
    layers += [None] * (3 - len(layers))
    wide = [None if array is None else array.astype(np.float64) for array in (x, scores, weights)]
    chosen_only = quantized or attributes["normalize_routing_weights"] == 1
    y = mixed(*wide, layers, attributes, chosen_only)
    case.expected = [y.reshape(case.values_by_name[node.input[0]].shape).astype(dtype)]
