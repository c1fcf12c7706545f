"""Text, words, paths, recurrence, and the small operators of newer language models."""

from __future__ import annotations

import numpy as np

from ..case import Case, NotApplicable, generator

WORDS = (
    "",
    "hello world",
    "a,b;c",
    "Grüße aus Köln",
    "  x  y ",
    "日本 語",
    "a1b22c333",
    "---",
    "one-two-three",
    "\t tab\n",
)


@generator("Tokenizer", domain="com.microsoft")
def tokenizer(case: Case) -> None:
    shape = case.shape(case.size(1, 2), 1, 5)
    texts = [case.pick(*WORDS) for _ in range(int(np.prod(shape)))]
    array = np.array(texts, dtype=object).reshape(shape)
    form = case.pick("characters", "separators", "expression")
    separators = expression = None
    least = case.size(1, 3)
    if form == "characters":
        least = 1
        if case.chance():
            separators = [""]
        else:
            expression = "."
    elif form == "separators":
        choices = [" ", ",", ";", "-", "[0-9]+", "\\s+", "o", "wo", "é|ü", "b;?c", "x*"]
        separators = [choices[index] for index in case.rng.choice(len(choices), case.size(1, 3), replace=False)]
    else:
        expression = case.pick(
            "[a-z]+", "\\w", "[a-zA-Z]+|[0-9]", "a|ab|abc", "\\d*", "[^ ]+", "(o|one)-?", "\\bt\\w*", "ö."
        )
    case.node(
        [case.input(array)],
        [8],
        mark=case.size(0, 1),
        mincharnum=least,
        pad_value=case.pick("", "#", "pad"),
        separators=separators,
        tokenexp=expression,
    )


@generator("WordConvEmbedding", domain="com.microsoft")
def word_embedding(case: Case) -> None:
    words, length, window = case.size(1, 5), case.size(2, 8), case.size(1, 3)
    length = max(length, window)
    filters, size, rows = case.size(1, 6), case.size(1, 5), case.size(3, 20)
    sequence = case.integers([words, length], 1, rows, np.int32)
    for row in range(words):  # no word is empty: onnxruntime leaves its place as it finds it
        sequence[row, case.size(1, length) :] = 0
    inputs = [
        case.input(sequence),
        case.input(case.floats([filters, 1, window, size]), 0.8),
        case.input(case.floats([filters]), 0.8),
        case.input(case.floats([rows, size]), 0.8),
    ]
    case.node(
        inputs,
        [np.float32],
        embedding_size=case.pick(None, filters),
        conv_window_size=case.pick(None, window),
        char_embedding_size=case.pick(None, size),
    )


@generator("DynamicTimeWarping", domain="com.microsoft")
def time_warping(case: Case) -> None:
    shape = case.shape(2, 1, 9)
    case.node([case.input(case.floats(shape if case.chance(0.7) else [1] + shape))], [np.int32])


@generator("BifurcationDetector", domain="com.microsoft")
def bifurcation(case: Case) -> None:
    count, position = case.size(1, 12), 0
    source = case.integers([count], 0, 4)
    predicted = None
    if case.chance(0.7):
        position = case.size(0, count)
        predicted = np.append(source[position:], case.size(0, 3))
        if case.chance(0.6):
            predicted[case.size(0, len(predicted) - 1)] = case.size(0, 3)
    least = case.size(1, 2)
    case.node(
        [
            case.input(source),
            case.input(case.integers([case.size(1, 6)], 0, 4)),
            case.input(np.array([position])),
            case.input(predicted),
        ],
        [np.int64] * 2,
        min_ngram_size=least,
        max_ngram_size=case.size(least, 4),
    )


@generator("GatherND", domain="com.microsoft")
def gather_nd(case: Case) -> None:
    data_shape = case.shape(case.size(1, 4), 1, 5)
    depth = case.size(1, len(data_shape))
    shape = case.shape(case.size(0, 2), 0, 4)
    indices = np.stack([case.integers(shape, 0, extent) for extent in data_shape[:depth]], axis=-1)
    dtype = case.pick(np.float32, np.int64, np.uint8, np.float16)
    data = case.integers(data_shape, 0, 100).astype(dtype)
    case.node([case.input(data), case.input(indices.astype(case.pick(np.int32, np.int64)))], [dtype])


@generator("MatMulInteger16", domain="com.microsoft")
def matmul_integer16(case: Case) -> None:
    m, k, n = case.size(1, 6), case.size(1, 20), case.size(1, 6)
    batch = case.shape(case.size(0, 2), 1, 3)
    left = case.integers(batch + [m, k], -2000, 2000, np.int16)
    right = case.integers((batch if case.chance() else []) + [k, n], -2000, 2000, np.int16)
    case.node([case.input(left), case.input(right, 0.5)], [np.int32])


@generator("DynamicQuantizeLSTM", domain="com.microsoft")
def quantized_lstm(case: Case) -> None:
    steps, batch, width, hidden = case.size(1, 6), case.size(1, 4), case.size(1, 8), case.size(1, 8)
    direction = case.pick("forward", "reverse", "bidirectional")
    count = 2 if direction == "bidirectional" else 1
    dtype, by_column = case.pick(np.int8, np.uint8), case.chance(0.3)
    scales = [count, 4 * hidden] if by_column else [count]

    def weights(rows: int) -> list[str]:
        zero = np.zeros(scales, dtype) if by_column or case.chance(0.3) else case.quantized(scales, dtype)
        return [
            case.input(case.factors([count, rows, 4 * hidden], dtype), True),
            case.input(np.asarray(case.rng.uniform(0.001, 0.01, scales), np.float32), True),
            case.input(zero, True),
        ]

    first, second = weights(width), weights(hidden)
    lengths = case.integers([batch], 1, steps + 1, np.int32) if case.chance(0.3) else None
    inputs = [
        case.input(case.floats([steps, batch, width])),
        first[0],
        second[0],
        case.input(case.floats([count, 8 * hidden]) if case.chance() else None, True),
        case.input(lengths),
        case.input(case.floats([count, batch, hidden]) if case.chance() else None),
        case.input(case.floats([count, batch, hidden]) if case.chance() else None),
        case.input(case.floats([count, 3 * hidden]) if case.chance(0.3) else None, True),
        *first[1:],
        *second[1:],
    ]
    outputs = [np.float32 if case.chance(0.8) else None, np.float32, np.float32]
    case.node(
        inputs,
        outputs,
        hidden_size=hidden,
        direction=direction,
        clip=case.pick(None, None, 0.7),
        input_forget=case.pick(None, 0, 1),
        activations=case.pick(None, ["Sigmoid", "Tanh", "Tanh"] * count, ["HardSigmoid", "Tanh", "Softsign"] * count),
    )


@generator("GatedRMSNorm", domain="com.microsoft")
def gated_norm(case: Case) -> None:
    dtype = case.float_type()
    columns, groups = case.size(1, 9), case.size(1, 3)
    shape = case.shape(case.size(1, 3), 1, 4) + [groups * columns]
    case.node(
        [case.input(case.floats(shape)), case.input(case.floats([columns]), 0.8), case.input(case.floats(shape))],
        [dtype],
        activation=case.pick(None, "silu", "swish", "sigmoid"),
        epsilon=case.pick(None, 1e-3),
    )


@generator("GatedAdd", domain="com.microsoft")
def gated_add(case: Case) -> None:
    dtype = case.float_type()
    shape = case.shape(case.size(1, 4), 1, 5)
    case.node(
        [case.input(case.floats(shape)), case.input(case.floats(shape)), case.input(case.floats(shape[:-1] + [1]))],
        [dtype],
    )


@generator("LinearAttentionGate", domain="com.microsoft")
def attention_gate(case: Case) -> None:
    dtype = case.float_type()
    shape = case.shape(3, 1, 5)
    vectors = [np.asarray(case.rng.standard_normal(shape[2]), np.float32) for _ in range(2)]
    beta = case.chance()
    case.node(
        [
            case.input(case.floats(shape)),
            *(case.input(vector, 0.8) for vector in vectors),
            case.input(case.floats(shape) if beta else None),
        ],
        [dtype, dtype if beta else None],
    )


@generator("ScaledSiLU", domain="com.microsoft")
def scaled_silu(case: Case) -> None:
    dtype = case.float_type()
    scale = case.floats(case.pick([], [1])) if case.chance() else None
    case.node(
        [case.input(case.floats(case.shape(case.size(1, 4), 1, 6))), case.input(scale)],
        [dtype],
        alpha=case.pick(None, 1.7),
    )


@generator("BranchwiseRMSNorm", domain="com.microsoft")
def branchwise_norm(case: Case) -> None:
    dtype = case.float_type()
    branches, columns, outer = case.size(1, 4), case.size(1, 9), case.shape(case.size(1, 2), 1, 4)
    flat = case.chance()
    shape = outer + ([branches * columns] if flat else [branches, columns])
    scale = case.floats(case.pick([branches * columns], [branches, columns], [columns])) if case.chance(0.7) else None
    case.node(
        [case.input(case.floats(shape)), case.input(scale, 0.8)],
        [dtype],
        num_branches=branches if flat else case.pick(None, 0),
        epsilon=case.pick(None, 1e-3),
    )


@generator("MRotaryEmbedding", domain="com.microsoft")
def sectioned_rotary(case: Case) -> None:
    dtype = case.float_type()
    batch, length, heads = case.size(1, 3), case.size(1, 5), case.size(1, 3)
    layout = case.size(0, 1)
    sections = [case.size(0, 3) for _ in range(3)]
    if layout:
        sections[0] = max(sections) + case.size(0, 2)
    half, partial = sum(sections), case.chance(0.3)
    if half == 0:
        raise NotApplicable("no columns")
    size = 2 * half + (2 * case.size(1, 3) if partial else 0)
    shape = [batch, heads, length, size] if case.chance() else [batch, length, heads * size]
    inputs = [case.input(case.floats(shape)), case.input(case.integers([3, batch, length], 0, 16))]
    inputs += [case.input(case.floats([16, half]), 0.8) for _ in range(2)]
    case.node(
        inputs,
        [dtype],
        mrope_section=sections,
        mrope_layout=layout,
        interleaved=case.pick(None, 0, 1),
        num_heads=heads if partial or case.chance() else None,
        rotary_embedding_dim=2 * half if partial else None,
    )
