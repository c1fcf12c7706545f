"""Generation of text: small models with caches in the forms of GPT-2, T5 and Whisper."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from ..case import Case, generator

LAYERS = 2
# Rows of embeddings beyond the vocabulary, for tokens that are never generated.
ROOM = 8


class SmallModel:
    """A graph that is put together node by node."""

    def __init__(self, case: Case, name: str, heads: int, size: int, vocabulary: int) -> None:
        self.case, self.name, self.heads, self.size, self.vocabulary = case, name, heads, size, vocabulary
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def input(self, name: str, elem_type: int, dims: list) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, elem_type, dims))
        return name

    def output(self, value: str, name: str, dims: list) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))

    def constant(self, array: np.ndarray) -> str:
        name = f"{self.name}_c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.case.rng.standard_normal(shape).astype(np.float32))

    def op(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{self.name}_v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def by_head(self, value: str) -> str:
        """[batch, length, columns] to [batch, heads, length, size]."""
        split = self.op("Reshape", value, self.constant(np.array([0, 0, self.heads, self.size])))
        return self.op("Transpose", split, perm=[0, 2, 1, 3])

    def attend(self, query: str, key: str, value: str, mask: str | None) -> str:
        """Attention of heads; `mask` is [batch, keys] of 0 and 1."""
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        if mask:
            visible = self.op("Cast", self.op("Unsqueeze", mask, self.constant(np.array([1, 2]))), to=TensorProto.FLOAT)
            hidden = self.op(
                "Mul", self.op("Sub", self.constant(np.float32(1)), visible), self.constant(np.float32(-1e4))
            )
            scores = self.op("Add", scores, hidden)
        mixed = self.op("Transpose", self.op("MatMul", self.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        return self.op("Reshape", mixed, self.constant(np.array([0, 0, self.heads * self.size])))

    def graph(self) -> GraphProto:
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.constants)


def gpt(case: Case, name: str, heads: int, size: int, vocabulary: int) -> GraphProto:
    model = SmallModel(case, name, heads, size, vocabulary)
    width = heads * size
    ids = model.input("input_ids", TensorProto.INT32, ["batch", "length"])
    positions = model.input("position_ids", TensorProto.INT32, ["batch", "length"])
    mask = model.input("attention_mask", TensorProto.INT32, ["batch", "total"])
    x = model.op(
        "Add",
        model.op("Gather", model.weights(vocabulary + ROOM, width), ids),
        model.op("Gather", model.weights(64, width), positions),
    )
    presents = []
    for layer in range(LAYERS):
        past = model.input(f"past_{layer}", TensorProto.FLOAT, [2, "batch", heads, "past", size])
        parts = []
        for index in range(2):
            old = model.op("Gather", past, model.constant(np.int64(index)), axis=0)
            new = model.by_head(model.op("MatMul", x, model.weights(width, width)))
            parts.append(model.op("Concat", old, new, axis=2))
        x = model.op("Add", x, model.attend(model.by_head(x), parts[0], parts[1], mask))
        axis = model.constant(np.array([0]))
        presents.append(model.op("Concat", *(model.op("Unsqueeze", part, axis) for part in parts), axis=0))
    model.output(model.op("MatMul", x, model.weights(width, vocabulary)), "logits", ["batch", "length", vocabulary])
    for layer, present in enumerate(presents):
        model.output(present, f"present_{layer}", [2, "batch", heads, "total", size])
    return model.graph()


def decode(
    model: SmallModel,
    ids: str,
    mask: str | None,
    pasts: list[str] | None,
    hidden: str | None = None,
    cross: list[str] | None = None,
) -> tuple[str, list[str], list[str]]:
    """Logits, the caches of the decoder, those of its cross attention (from `hidden`, or given)."""
    width = model.heads * model.size
    x = model.op("Gather", model.weights(model.vocabulary + ROOM, width), ids)
    presents, crosses = [], list(cross or [])
    for layer in range(LAYERS):
        parts = []
        for index in range(2):
            new = model.by_head(model.op("MatMul", x, model.weights(width, width)))
            parts.append(model.op("Concat", pasts[2 * layer + index], new, axis=2) if pasts else new)
        presents += parts
        x = model.op("Add", x, model.attend(model.by_head(x), parts[0], parts[1], None))
        if not cross:
            crosses += [model.by_head(model.op("MatMul", hidden, model.weights(width, width))) for _ in range(2)]
        key, value = crosses[2 * layer : 2 * layer + 2]
        x = model.op("Add", x, model.attend(model.by_head(x), key, value, mask))
    return model.op("MatMul", x, model.weights(width, model.vocabulary)), presents, crosses


def encoder_decoder(case: Case, heads: int, size: int, vocabulary: int, form: str) -> tuple[GraphProto, GraphProto]:
    """`form`: "t5" (the encoder decodes the first token), "t5 cross" (it makes the cross caches alone), "whisper"."""
    width, whisper, first = heads * size, form == "whisper", form != "t5 cross"
    model = SmallModel(case, "encoder", heads, size, vocabulary)
    if whisper:
        features = model.input("encoder_input_ids", TensorProto.FLOAT, ["batch", 5, "frames"])
        hidden = model.op("MatMul", model.op("Transpose", features, perm=[0, 2, 1]), model.weights(5, width))
        mask = None
    else:
        ids = model.input("encoder_input_ids", TensorProto.INT32, ["batch", "frames"])
        mask = model.input("encoder_attention_mask", TensorProto.INT32, ["batch", "frames"])
        hidden = model.op("Gather", model.weights(vocabulary + ROOM, width), ids)
    caches = ["batch", heads, "length", size]
    if first:
        start = model.input("decoder_input_ids", TensorProto.INT32, ["batch", "start"])
        logits, presents, crosses = decode(model, start, mask, None, hidden)
        model.output(logits, "logits", ["batch", "start", vocabulary])
        model.output(hidden, "encoder_hidden_states", ["batch", "frames", width])
        for index, present in enumerate(presents):
            model.output(present, f"present_{('key', 'value')[index % 2]}_self_{index // 2}", caches)
    else:
        crosses = [model.by_head(model.op("MatMul", hidden, model.weights(width, width))) for _ in range(2 * LAYERS)]
        # The mask must be used.
        crosses[0] = model.op(
            "Mul",
            crosses[0],
            model.op("Unsqueeze", model.op("Cast", mask, to=TensorProto.FLOAT), model.constant(np.array([1, 3]))),
        )
    for index, cross in enumerate(crosses):
        model.output(cross, f"present_{('key', 'value')[index % 2]}_cross_{index // 2}", caches)
    encoder = model.graph()

    model = SmallModel(case, "decoder", heads, size, vocabulary)
    ids = model.input("input_ids", TensorProto.INT32, ["batch", 1])
    mask = None if whisper else model.input("encoder_attention_mask", TensorProto.INT32, ["batch", "frames"])
    if first and case.chance(0.4):
        model.input("encoder_hidden_states", TensorProto.FLOAT, ["batch", "frames", width])
    names = {}
    for kind in ("self", "cross"):
        names[kind] = [
            model.input(f"past_{('key', 'value')[index % 2]}_{kind}_{index // 2}", TensorProto.FLOAT, caches)
            for index in range(2 * LAYERS)
        ]
    logits, presents, _ = decode(model, ids, mask, names["self"], cross=names["cross"])
    model.output(logits, "logits", ["batch", 1, vocabulary])
    for index, present in enumerate(presents):
        model.output(present, f"present_{('key', 'value')[index % 2]}_self_{index // 2}", caches)
    return encoder, model.graph()


def scalar(case: Case, value: float | None, dtype: type = np.int32) -> str:
    return case.input(None if value is None else np.array([value], dtype), 0.3)


def masks(case: Case, batch: int, vocabulary: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Masks of the vocabulary and of the first token, which leave most tokens."""
    one = (case.rng.random(vocabulary) < 0.8).astype(np.int32) if case.chance(0.4) else None
    first = (case.rng.random((batch, vocabulary)) < 0.8).astype(np.int32) if case.chance(0.3) else None
    return one, first


def prompt(case: Case, batch: int, length: int, vocabulary: int, pad: int) -> np.ndarray:
    ids = case.integers([batch, length], 0, vocabulary, np.int32)
    for row in range(batch):
        if case.chance(0.3):
            ids[row, : case.size(0, length - 1)] = pad
    return ids


@generator("GreedySearch", "Sampling", domain="com.microsoft")
def greedy(case: Case) -> None:
    heads, size, vocabulary = case.size(1, 2), case.size(1, 4), case.size(8, 20)
    batch, length = case.size(1, 3), case.size(1, 5)
    longest = length + case.size(1, 8)
    # What follows when all sequences have ended is not defined: it is cut off where the pad token, which is never
    # generated, tells the end.
    pad = vocabulary
    ids = prompt(case, batch, length, vocabulary, pad)
    one, first = masks(case, batch, vocabulary)
    mask = (case.rng.random(ids.shape) < 0.8).astype(np.int32) if case.chance(0.2) else None
    inputs = [
        case.input(ids),
        scalar(case, longest),
        scalar(case, case.pick(None, 0, longest - 1)),
        scalar(case, case.pick(None, 1.0, 1.3, 0.8), np.float32),
        case.input(one),
        case.input(first),
        case.input(mask),
    ]
    attributes = {
        "eos_token_id": case.size(0, vocabulary - 1),
        "pad_token_id": pad,
        "no_repeat_ngram_size": case.pick(None, 0, 2, 3),
        "decoder": gpt(case, "decoder", heads, size, vocabulary),
    }
    outputs = [np.int32]
    if case.op == "Sampling":
        # onnxruntime takes every presence penalty from the first token: a penalty has a mask without any.
        penalty = case.pick(None, 0.5)
        presence = case.integers([batch, vocabulary], 0, 1 if penalty else 2, np.int32) if case.chance(0.4) else None
        inputs += [case.input(presence), scalar(case, case.size(1, 1000))]
        attributes |= {
            "temperature": case.pick(None, 0.7, 1.5),
            "top_p": case.pick(0.3, 0.6, 0.9),
            "presence_penalty": penalty,
            "custom": case.pick(None, 0, 1),
            "min_tokens_to_keep": case.pick(None, 1, 2),
            "filter_value": case.pick(None, -1e10),
        }
    node = case.node(inputs, outputs, **attributes)
    cut_behind_ends(case, node, pad)


def cut_behind_ends(case: Case, node: NodeProto, pad: int) -> None:
    """Replaces columns behind the first that is all `pad` by `pad`."""
    tokens, result = "tokens", node.output[0]
    node.output[0] = tokens
    for name, array in (("pad", np.array(pad, np.int32)), ("zero", np.array([0])), ("one", np.array(1))):
        case.initializers.append(numpy_helper.from_array(array, name))
    case.nodes += [
        helper.make_node("Equal", [tokens, "pad"], ["is_pad"]),
        helper.make_node("Cast", ["is_pad"], ["pads"], to=TensorProto.INT64),
        helper.make_node("ReduceMin", ["pads", "zero"], ["ended"], keepdims=1),
        helper.make_node("CumSum", ["ended", "one"], ["ends"], exclusive=1),
        helper.make_node("GreaterOrEqual", ["ends", "one"], ["is_behind"]),
        helper.make_node("Where", ["is_behind", "pad", tokens], [result]),
    ]


def beam_inputs(case: Case, batch: int, length: int, vocabulary: int) -> tuple[list[str], int]:
    """The inputs 1 to 8, and the number of sequences returned."""
    longest, beams = length + case.size(2, 8), case.size(1, 4)
    returned = case.size(1, beams)
    one, first = masks(case, batch, vocabulary)
    return [
        scalar(case, longest),
        scalar(case, case.pick(None, 0, longest - 2)),
        scalar(case, beams),
        scalar(case, returned),
        scalar(case, case.pick(None, 1.0, 0.5, 2.0), np.float32),
        scalar(case, case.pick(None, 1.0, 1.3), np.float32),
        case.input(one),
        case.input(first),
    ], returned


def beam_attributes(case: Case, vocabulary: int, pad: int) -> dict:
    return {
        "eos_token_id": case.size(0, vocabulary - 1),
        "pad_token_id": pad,
        "no_repeat_ngram_size": case.pick(None, 0, 2),
        "early_stopping": case.pick(None, 0, 1),
    }


@generator("BeamSearch", domain="com.microsoft")
def beam(case: Case) -> None:
    heads, size, vocabulary = case.size(1, 2), case.size(1, 4), case.size(12, 20)
    batch, length, pad = case.size(1, 3), case.size(1, 5), case.size(0, 7)
    form = case.pick("gpt", "gpt", "t5", "t5 cross")
    ids = prompt(case, batch, length, vocabulary, pad)
    attributes = beam_attributes(case, vocabulary, pad)
    if form == "gpt":
        attributes["decoder"] = gpt(case, "decoder", heads, size, vocabulary)
        if case.chance(0.3):
            attributes["init_decoder"] = gpt(case, "init", heads, size, vocabulary)
    else:
        attributes["encoder"], attributes["decoder"] = encoder_decoder(case, heads, size, vocabulary, form)
        attributes |= {"decoder_start_token_id": case.size(0, vocabulary - 1), "model_type": 1}
    numbers, _ = beam_inputs(case, batch, length if form == "gpt" else 1, vocabulary)
    mask = (case.rng.random(ids.shape) < 0.8).astype(np.int32) if case.chance(0.2) else None
    case.node(
        [case.input(ids)] + numbers + [case.input(mask)], [np.int32] + [np.float32] * case.size(0, 1), **attributes
    )


@generator("WhisperBeamSearch", domain="com.microsoft")
def whisper(case: Case) -> None:
    heads, size, vocabulary = case.size(1, 2), case.size(1, 4), 70
    batch, start, pad = case.size(1, 3), case.size(1, 3), case.size(0, 7)
    attributes = beam_attributes(case, vocabulary, pad)
    attributes |= {
        "eos_token_id": 10,
        "decoder_start_token_id": 11,
        "translate_token_id": 12,
        "transcribe_token_id": 13,
        "start_of_lm_token_id": 14,
        "no_speech_token_id": 15,
        "no_timestamps_token_id": 16,
        "beginning_timestamp_token_id": case.pick(17, 40),
    }
    attributes["encoder"], attributes["decoder"] = encoder_decoder(case, heads, size, vocabulary, "whisper")
    numbers, _ = beam_inputs(case, batch, start, vocabulary)
    ids = np.concatenate([np.full([batch, 1], 11), case.integers([batch, start - 1], 12, 17)], axis=1).astype(np.int32)
    inputs = [case.input(case.floats([batch, 5, case.size(1, 6)]))] + numbers
    inputs += [
        "",
        case.input(ids),
        scalar(case, case.pick(None, 0, 1)),
        "",
        "",
        scalar(case, case.pick(None, 1.0, 0.7), np.float32),
    ]
    # onnxruntime leaves the output non_speech_probs as it finds the memory.
    case.node(inputs, [np.int32] + [np.float32] * case.size(0, 1), **attributes)
