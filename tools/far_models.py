"""Models of one layer for check_far_numbers.py: programs of PyTorch, layers and functions of Keras, graphs of
TensorFlow Lite. Their arguments are drawn: a few of them or all are far too large, or below 0, and the others small, so
that what is far is not always refused at the first argument."""

from __future__ import annotations

import functools
import random
import re
from typing import Any

import check_hostile
from check_hostile import ROOT
from flatbuffers import flexbuffers

FAR, LARGEST = 1 << 40, (1 << 31) - 1
NUMBERS = (FAR, (1 << 62) - 1, -(1 << 62), (1 << 63) - 1, -(1 << 63), LARGEST, -1, 0)
# Those of 32 bits, where a format has no others.
NUMBERS_32 = (LARGEST, -LARGEST, -LARGEST - 1, 1 << 20, 65537, -1, 0)
EXTENTS = ((1, FAR), (1, 1, FAR), (1, 1, 5, FAR), (1, 2, 5, 6, FAR), (FAR, 64), (FAR, FAR), (FAR,), (2, 3, 4, 4))
# Two such extents are more elements than any tensor may have, which is said at once where a file has them.
EXTENTS_32 = tuple(tuple(min(extent, LARGEST) for extent in shape) for shape in EXTENTS if shape != (FAR, FAR))


class Draw(random.Random):
    """What a case is made of: the same every time by operator, series and number."""

    def __init__(self, numbers: tuple[int, ...], *key: object) -> None:
        super().__init__(" ".join(map(str, key)))
        self.numbers, self.share = numbers, self.choice((0.1, 0.3, 1.0))

    def extents(self) -> list[int]:
        return list(self.choice(EXTENTS_32 if self.numbers is NUMBERS_32 else EXTENTS))

    def number(self) -> int:
        return self.choice(self.numbers) if self.random() < self.share else self.choice((1, 1, 2, 3))

    def some(self, length: int) -> list[int]:
        return [self.number() for _ in range(max(length, 0))]


# MARK: PyTorch

OPERANDS = (
    "self input x1 x2 other indices index weight mat1 mat2 tensor values source src input1 input2 query key value grid "
    "theta rois dets scores mask offset bias running_mean running_var end exponent condition boundaries vec1 vec2 real "
    "sorted_sequence offsets tensor1 tensor2 window"
).split()
INTEGERS = (
    "k n repeats steps row col sections chunks split_size groups num_groups upscale_factor downscale_factor start end "
    "step bins num_classes diagonal offset window_length m minlength n_fft hop_length win_length decimals ord index "
    "padding_idx dim0 dim1 dim2 dim axis dimension start_dim end_dim axis0 axis1 length correction divisor_override "
    "quant_min quant_max zero_point pooled_height pooled_width sampling_ratio offset_groups num_heads num_head "
    "num_layers last_dim_size N C HxW group max min storage_offset value fill_value mode test_elements size base"
).split()
LISTS = (
    "kernel_size stride padding dilation output_size pad shape normalized_shape shifts dims dim split_sizes sizes s "
    "output_padding size source destination indices tensor_indices_or_sections scale_factors repeats sumdim step"
).split()
SYMBOLS = ("_operator.", "math.", "torch.")
FLOAT32, INT64 = 7, 5


def target(operator: str) -> str:
    """The name of an operator in a file; those of ATen are told without the namespace."""
    if operator.startswith(SYMBOLS):
        return operator
    if operator.startswith("higher_order."):
        return f"torch.ops.{operator}"
    names = operator.split(".")
    if names[0] not in ("aten", "quantized_decomposed", "torchvision"):
        names.insert(0, "aten")
    return ".".join(["torch.ops", *names, *["default"][: 3 - len(names)]])


def node_arguments(draw: Draw, rank: int) -> list[tuple[str, Any]]:
    """The operands, then numbers and lists by every name that operators have; the first of a name counts."""
    tensor = {"as_tensor": {"name": "x"}}
    taken = draw.choice((3, len(OPERANDS)))
    given: list[tuple[str, Any]] = [("self", tensor), ("input", tensor)]
    for name in ("tensors", "hx", "params", "indices")[: draw.choice((1, 4))]:
        given.append((name, {"as_tensors": [{"name": "x"}] * draw.choice((1, 2, 3))}))
    numbers = [(name, {"as_int": draw.number()}) for name in INTEGERS if draw.random() < 0.8]
    lists = [(name, {"as_ints": draw.some(draw.choice((1, rank - 2, rank, 2 * (rank - 2))))}) for name in LISTS]
    if draw.random() < 0.7:
        axis = {"as_int": draw.choice((rank - 1, 0, -1, 1))}
        given += [(name, axis) for name in ("dim", "dimension", "axis", "dim1", "start_dim")]
    families = [numbers, lists]
    draw.shuffle(families)
    operands = [(name, tensor) for name in draw.sample(OPERANDS, taken)]
    return given + (operands + families[0] + families[1] if draw.random() < 0.5 else sum(families, []) + operands)


def inner_graph() -> dict:
    """A graph that an operator of a higher order calls: it gives its input."""
    end = [{"as_tensor": {"name": "i"}}]
    tensors = {"i": {"dtype": FLOAT32, "sizes": [], "strides": [], "storage_offset": {"as_int": 0}}}
    return {"inputs": end, "outputs": end, "nodes": [], "tensor_values": tensors, "sym_int_values": {},
            "sym_bool_values": {}}  # fmt: skip


def program(operator: str, draw: Draw) -> bytes:
    """A program of one node of its input, or of one that makes a number and one that makes a tensor of that length."""
    extents = draw.extents()
    tensor = {"as_tensor": {"name": "x"}}
    arguments = node_arguments(draw, len(extents))
    outputs: list[dict] = [{"as_tensor": {"name": f"y{index}"}} for index in range(draw.choice((1, 1, 2, 3)))]
    if draw.random() < 0.2:
        outputs = [{"as_tensors": [{"name": f"y{index}"} for index in range(draw.choice((1, 2, 3)))]}]
    if operator.startswith(SYMBOLS):
        arguments = [("", {"as_sym_int": {"as_int": draw.number()}}) for _ in range(draw.choice((1, 2, 3)))]
        outputs = [{"as_sym_int": {"as_name": "s"}}]
    if operator.startswith("higher_order."):
        inner = {"as_graph": {"name": "g", "graph": inner_graph()}}
        first = [{"as_bool": True}] if draw.random() < 0.5 else []
        arguments = [("", each) for each in [*first, inner, inner, {"as_tensors": [{"name": "x"}]}, tensor]]
    # What a node lacks of its results is an error: mostly one is asked for.
    results = [{"as_tensor": {"name": name}} for name in re.findall(r"'name': '(y\d)'", str(outputs))]
    ends = results if draw.random() < 0.3 else results[:1]

    def change(content: dict) -> None:
        graph = check_hostile.graph(content)
        nodes = [(target(operator), arguments, outputs)]
        if operator.startswith(SYMBOLS):
            size = {"as_sym_ints": [{"as_name": "s"}, {"as_int": draw.number()}]}
            full = [("size", size), ("fill_value", {"as_int": 1})]
            nodes.append(("torch.ops.aten.full.default", full, [{"as_tensor": {"name": "y0"}}]))
        graph["nodes"] = [
            {"target": name, "inputs": [{"name": key, "arg": value, "kind": 1} for key, value in given],
             "outputs": made, "metadata": {}} for name, given, made in nodes
        ]  # fmt: skip
        graph["sym_int_values"] = {"s": {"as_expr": {"expr_str": "s0", "hint": None}}}
        values = graph["tensor_values"]
        for name in ("x", "y0", "y1", "y2"):
            sizes = [{"as_int": extent} for extent in (extents if name == "x" else draw.extents())]
            kind = draw.choice((FLOAT32, FLOAT32, INT64))
            values[name] = values["x"] | {"dtype": kind, "sizes": sizes, "strides": [{"as_int": 1}] * len(sizes)}
        graph["outputs"] = ends or [{"as_tensor": {"name": "y0"}}]
        content["graph_module"]["signature"]["output_specs"] = [
            {"user_output": {"arg": end}} for end in graph["outputs"]
        ]

    return check_hostile.program_with(change)


# MARK: Keras

SCALARS = (
    "units filters n num_heads key_dim value_dim num_tokens input_dim output_dim height width groups depth_multiplier "
    "axis axis1 axis2 shift num_query_heads num_key_value_heads head_dim k num_classes block_size fft_length repeats "
    "sequence_length sequence_stride offset ord depth num_or_size_splits threshold b x1 x2 y source destination order"
).split()
SHAPES = (
    "kernel_size strides pool_size padding cropping size axes dims target_shape shape dilation_rate output_size bins "
    "newshape pad_width start_indices indices_or_sections input_shape output_padding multiples perm paddings "
    "indices values noise_shape num repeats shift axis key slice_spec fill_value bin_boundaries"
).split()
CHOICES: dict[str, tuple[Any, ...]] = {
    "padding": ("same", "valid", "causal"), "data_format": ("channels_last", "channels_first"), "mode": ("constant",),
    "interpolation": ("nearest", "bilinear", "bicubic"), "activation": ("linear", "relu"), "keepdims": (True, False),
    "use_bias": (False, True), "output_mode": ("int", "one_hot", "multi_hot", "count"), "normalize": (True,),
    "center": (False, True), "scale": (False, True), "return_sequences": (True, False), "crop_to_aspect_ratio": (True,),
    "pad_to_aspect_ratio": (True,), "antialias": (True,), "invert": (True,),
}  # fmt: skip


def value(draw: Draw, rank: int) -> Any:
    """A number, a list of some, or a list of pairs."""
    length = draw.choice((1, 2, 3, rank - 2, rank))
    return draw.choice((draw.number(), draw.some(length), draw.some(length), [draw.some(2) for _ in range(length)]))


def members(draw: Draw, rank: int, share: float) -> dict[str, Any]:
    made = {key: draw.number() for key in SCALARS if draw.random() < share}
    made |= {key: value(draw, rank) for key in SHAPES if draw.random() < share}
    for key, choices in CHOICES.items():
        if draw.random() < max(share, 0.7) and (key not in made or draw.random() < 0.7):
            made[key] = draw.choice(choices)
    return made


def keras(operator: str, draw: Draw) -> bytes:
    """A layer with all members that layers have, or a function with arguments by place and by name."""
    extents = draw.extents()
    tensor, rank = check_hostile.history("x"), len(extents)
    kind, _, name = operator.partition(".") if operator.startswith(("tf.", "ops.")) else ("", "", operator)
    if kind:
        args = [draw.choice((tensor, value(draw, rank), draw.number())) for _ in range(draw.randrange(4))]
        config = members(draw, rank, draw.choice((0.0, 0.05, 1.0)))
        kwargs = config if draw.random() < 0.5 or kind == "tf" else {}
        config = {"name": "far"} if kwargs else config | {"name": "far"}
        module, given = "keras.src.ops.numpy", [tensor, *args]
        if draw.random() < 0.15:
            given = [[tensor, tensor], *args]
        made = {"class_name": name, "module": module, "config": config}
        if kind == "tf":
            made = {"class_name": "TFOpLambda", "module": "keras", "config": {"name": "far", "function": name}}
    else:
        config, kwargs = members(draw, rank, 1.0), {}
        inner = draw.choice(("Reshape", "UpSampling2D", "ZeroPadding1D", "RepeatVector", "MaxPooling2D", "Flatten"))
        config["layer"] = check_hostile.layer(inner, "inner", **members(draw, rank - 1, 1.0))
        made, given = check_hostile.layer(name, "far", **config), [draw.choice((tensor, [tensor, tensor]))]
    first = check_hostile.entry(*extents[1:]) | {"name": "x", "inbound_nodes": []}
    first["config"]["dtype"] = draw.choice(("float32", "float32", "int32"))
    made |= {"name": "far", "inbound_nodes": [{"args": given, "kwargs": kwargs}]}
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["far", 0, 0]]}
    config = {"name": "f", "layers": [first, made]} | ends
    return check_hostile.keras_with({"class_name": "Functional", "module": "keras", "config": config})


# MARK: TensorFlow Lite

SCHEMA = ROOT / "Sources/ApusFormats/TFLite/TFLiteSchema.swift"
OPTION_FIELDS, CUSTOM, INT32 = 9, 32, 2
DETECTION = ("max_detections", "max_classes_per_detection", "detections_per_class", "num_classes")


@functools.cache
def schema() -> tuple[list[str], dict[str, int], dict[str, int]]:
    """The names of the operators by their numbers, and the types of both kinds of options by the names."""
    text = SCHEMA.read_text()
    names = re.search(r'operatorNames: \[String\] = """(.*?)"""', text, re.DOTALL)
    types = re.findall(r"ptionTypes: \[String: UInt8\] = \[(.*?)\n  \]", text, re.DOTALL)
    if not names or len(types) != 2:
        raise SystemExit(f"{SCHEMA} has no lists of operators")
    found = [{name: int(number) for name, number in re.findall(r'"(\w+)": (\d+)', part)} for part in types]
    return names[1].split(), *found


def options(operator: str, draw: Draw) -> dict[int, Any]:
    """The fields of an operator that hold its options."""
    _, types, later = schema()
    if operator.startswith("CUSTOM"):
        scales = dict.fromkeys(("y_scale", "x_scale", "h_scale", "w_scale"), 1.0)
        found = {name: draw.number() for name in DETECTION} | scales | {"nms_score_threshold": 0.1}
        struct = b"".join((draw.number() % (1 << 32)).to_bytes(4, "little") for _ in range(3))
        return {5: bytes(flexbuffers.Dumps(found | {"nms_iou_threshold": 0.5})) if "Detection" in operator else struct}
    made: dict[int, Any] = {}
    for field in range(OPTION_FIELDS):
        number = draw.choice((draw.number(), draw.number(), (1, draw.choice((0, 1)))))
        made[field] = draw.some(2 * draw.randrange(1, 5)) if draw.random() < 0.1 else number
        if draw.random() < 0.2:
            del made[field]
    if operator in later:
        # Their fields are vectors of 8 bytes an element, which lead on into what is behind them.
        made = {field: draw.some(2 * draw.randrange(1, 5)) for field in range(3)} if draw.random() < 0.7 else made
        return {11: (1, later[operator]), 12: made}
    return {3: (1, types[operator]), 4: made} if operator in types else {}


def lite(operator: str, draw: Draw) -> bytes:
    """A graph of one operator: a tensor of large extents among constants of such numbers, and options."""
    code = {3: CUSTOM, 1: operator.removeprefix("CUSTOM ")} if operator.startswith("CUSTOM ") else {}
    code = code or {3: schema()[0].index(operator)}
    shape = draw.extents()
    kind = draw.choice((0, 0, INT32, 4, 9, 6))
    parts: list[tuple[list[int], int, bytes]] = []
    for _ in range(draw.randrange(5)):
        extents = draw.choice(([], [1], [2], [len(shape)], [len(shape), 2], [1, 1, 1, 1], [2, 3, 1, 3], [1, 2]))
        count = functools.reduce(int.__mul__, extents, 1)
        data = b"".join(number.to_bytes(4, "little", signed=True) for number in draw.some(count))
        parts.append((extents, draw.choice((kind if kind == 0 else INT32, INT32)), data))
    tensors = [tensor("x", shape, kind, 0)]
    tensors += [tensor(f"c{index}", extents, type, index + 1) for index, (extents, type, _) in enumerate(parts)]
    ends = list(range(len(tensors), len(tensors) + draw.choice((1, 1, 1, 2, 4))))
    tensors += [tensor(f"y{index}", draw.choice((shape, [2])), draw.choice((kind, 0)), 0) for index in ends]
    operands = draw.choice((list(range(len(parts) + 1)), list(range(len(parts) + 1))[::-1], [0, 0, 1], [0, 0]))
    node = {0: 0, 1: operands, 2: ends} | options(operator, draw)
    graph = {0: tensors, 1: [0], 2: ends, 3: [node], 4: "g"}
    model = {0: 3, 1: [code], 2: [graph], 4: [{}] + [{0: data} for _, _, data in parts]}
    return check_hostile.flat(model, b"TFL3")


def tensor(name: str, shape: list[int], kind: int, buffer: int) -> dict:
    return {0: list(shape), 1: (1, kind), 2: buffer, 3: name}


MAKERS = {"pt2": (program, NUMBERS), "keras": (keras, NUMBERS_32), "tflite": (lite, NUMBERS_32)}


def model(form: str, operator: str, *key: object) -> bytes:
    """The file of a format with an operator that `key` says: the same every time."""
    make, numbers = MAKERS[form]
    return make(operator, Draw(numbers, operator, *key))
