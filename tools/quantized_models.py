#!/usr/bin/env python3
"""Makes integer and 16-bit forms of exported models, as users make them with onnxruntime's own tools.

Reads MODELS/NAME.onnx (what tools/export_models.py wrote), and writes OUTPUT/NAME_FORM.onnx with its inputs beside it:

    qdq      QuantizeLinear and DequantizeLinear around float operators: u8 activations, s8 weights for each channel
    qdq_s8   the same with s8 activations and one scale for a weight
    qop      QLinear… operators: u8 activations, s8 weights for each channel
    dynamic  weights in s8, activations quantized while running
    nbits    weights of matrix products in 4 bits, in blocks of 32 (MatMulNBits)
    f16      float16 throughout

A form that is present is kept; --force makes it again. Run it with the python that `tools/python-env peers` prints.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from model_inputs import make_feeds, read_spec, sidecar

ROOT = Path(__file__).resolve().parent.parent
IMAGES = {"qdq", "qdq_s8", "qop", "f16"}
TEXTS = {"dynamic", "nbits", "f16"}
# Which forms a model is made in. What is not named here is left as it is.
FORMS: dict[str, set[str]] = {
    "resnet50": IMAGES,
    "resnet18": IMAGES,
    "mobilenet_v2": IMAGES,
    "mobilenet_v3_large": {"qdq", "qop", "f16"},
    "efficientnet_b0": {"qdq", "f16"},
    "squeezenet1_1": {"qdq", "qop"},
    "densenet121": {"qdq", "f16"},
    "shufflenet_v2": {"qdq"},
    "unet": {"qdq", "f16"},
    "repvgg": {"qdq", "qop"},
    "vit_b_16": {"qdq", "dynamic", "f16"},
    "convnext_tiny": {"f16"},
    "bert_base": TEXTS | {"qdq"},
    "minilm": TEXTS | {"qdq"},
    "gpt2": TEXTS,
    "llama": TEXTS,
    "whisper_encoder": {"dynamic", "f16"},
    "lstm": {"dynamic", "f16"},
}
CALIBRATIONS = 4
BLOCK = 32


def calibration(path: Path) -> Iterator[dict[str, np.ndarray]]:
    spec = read_spec(path)
    return iter([make_feeds(path, spec, spec.bench, seed) for seed in range(CALIBRATIONS)])


class Reader:
    """Inputs to calibrate with, in the form that onnxruntime asks for."""

    def __init__(self, path: Path) -> None:
        self.feeds = calibration(path)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def prepared(source: Path, folder: Path) -> Path:
    """The model after onnxruntime's own preparation for quantization, or as it is where that fails."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = folder / "prepared.onnx"
    try:
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    except Exception as error:  # noqa: BLE001 — it raises Exception itself
        print(f"{source.stem}: not prepared: {str(error)[:100]}", file=sys.stderr)
        return source
    return target


def make_static(source: Path, target: Path, form: str) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(prefix="apus-quantize-") as folder:
        quantize_static(
            str(prepared(source, Path(folder))),
            str(target),
            Reader(source),
            quant_format=QuantFormat.QOperator if form == "qop" else QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if form == "qdq_s8" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=form != "qdq_s8",
        )


def make_dynamic(source: Path, target: Path, form: str) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="apus-quantize-") as folder:
        quantize_dynamic(str(prepared(source, Path(folder))), str(target), weight_type=QuantType.QInt8)


def packed_blocks(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[k, n] as MatMulNBits has it without zero points: [n, k / 32, 16] bytes, the lower half first, and [n · k / 32]
    scales. A block is scaled so that its largest element, by magnitude, becomes -8."""
    k, n = weights.shape
    blocks = np.pad(weights.T, ((0, 0), (0, -k % BLOCK))).reshape(n, -1, BLOCK)
    place = np.abs(blocks).argmax(-1)[..., None]
    scales = np.take_along_axis(blocks, place, -1) / -8
    steps = np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales != 0)
    codes = (np.clip(np.round(steps), -8, 7) + 8).astype(np.uint8)
    return codes[..., 0::2] | codes[..., 1::2] << 4, scales.astype(np.float32).reshape(-1)


def make_nbits(source: Path, target: Path, form: str) -> None:
    """Every MatMul by a constant matrix becomes MatMulNBits."""
    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
            continue
        weights, scales = packed_blocks(numpy_helper.to_array(tensor))
        name = f"{node.output[0]}.{tensor.name}"
        graph.initializer.append(numpy_helper.from_array(weights, name + ".weights"))
        graph.initializer.append(numpy_helper.from_array(scales, name + ".scales"))
        attributes = {"K": tensor.dims[0], "N": tensor.dims[1], "bits": 4, "block_size": BLOCK}
        node.op_type, node.domain = "MatMulNBits", "com.microsoft"
        node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
        node.input[1:] = [name + ".weights", name + ".scales"]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, target)


# Inputs that stay float32 whatever the type of the others, by operator.
FLOAT_INPUTS = {"Resize": {1, 2}, "Upsample": {1}, "QuantizeLinear": {1}, "DequantizeLinear": {1}}


def halve_tensor(tensor: TensorProto) -> None:
    if tensor.data_type != TensorProto.FLOAT:
        return
    limit = float(np.finfo(np.float16).max)  # masks of -3e38 become the least number instead of -infinity
    values = np.clip(numpy_helper.to_array(tensor), -limit, limit).astype(np.float16)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def halve(graph: onnx.GraphProto, float_names: frozenset[str] = frozenset()) -> None:
    """Makes every float32 of a graph a float16, in place."""
    float_names |= {
        name
        for node in graph.node
        for index, name in enumerate(node.input)
        if index in FLOAT_INPUTS.get(node.op_type, ())
    }
    for tensor in graph.initializer:
        if tensor.name not in float_names:
            halve_tensor(tensor)
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if attribute.HasField("t") and not (node.op_type == "Constant" and node.output[0] in float_names):
                halve_tensor(attribute.t)
            if attribute.name == "value_float" and node.op_type == "Constant":
                value = TensorProto(data_type=TensorProto.FLOAT, float_data=[attribute.f])
                halve_tensor(value)
                attribute.CopyFrom(onnx.helper.make_attribute("value", value))
            for part in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                halve(part, float_names)


def make_half(source: Path, target: Path, form: str) -> None:
    model = onnx.load(source)
    halve(model.graph)
    onnx.save(model, target)


MAKERS: dict[str, Callable[[Path, Path, str], None]] = {
    "qdq": make_static,
    "qdq_s8": make_static,
    "qop": make_static,
    "dynamic": make_dynamic,
    "nbits": make_nbits,
    "f16": make_half,
}


def make(source: Path, form: str, target: Path) -> None:
    """Writes one form. The sidecar comes last: it marks the model as finished."""
    import onnxruntime

    logging.disable(logging.WARNING)
    sidecar(target).unlink(missing_ok=True)
    MAKERS[form](source, target, form)
    spec = read_spec(source)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    for output in session.run(None, make_feeds(target, spec, spec.bench)):
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            raise ValueError(f"{target.name}: an output is not finite")
    spec.write(target)


def make_apart(source: Path, form: str, target: Path) -> bool:
    """Writes one form in a fresh process, whose memory is given back."""
    command = [sys.executable, __file__, "--models", str(source.parent), "--output", str(target.parent)]
    command += ["--only", source.stem, "--forms", form, "--force", "--in-process"]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        print("\n".join((finished.stdout + finished.stderr).splitlines()[-12:]), file=sys.stderr)
    return finished.returncode == 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = ROOT / ".cache/models"
    parser.add_argument("--models", type=Path, default=folder, help="folder to read (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=folder / "narrow", help="default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=FORMS, default=list(FORMS))
    parser.add_argument("--forms", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--force", action="store_true", help="make models again that are already there")
    parser.add_argument("--in-process", action="store_true", help="make them in this process (for debugging)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.only:
        source = arguments.models / f"{name}.onnx"
        if not sidecar(source).exists():
            print(f"{name}: not exported", flush=True)
            continue
        for form in (form for form in arguments.forms if form in FORMS[name]):
            target = arguments.output / f"{name}_{form}.onnx"
            if sidecar(target).exists() and not arguments.force:
                continue
            if arguments.in_process:
                make(source, form, target)
            elif make_apart(source, form, target):
                print(f"{target.stem}: {target.stat().st_size / 1e6:.1f} MB", flush=True)
            else:
                failed.append(target.stem)
    if failed:
        print(f"not made: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
