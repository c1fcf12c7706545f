"""A digit classifier trained on scikit-learn's handwritten digits, its quantized form, and a few digits as pictures.

Pixels are 0 (paper) to 1 (ink): what a reader of a grey picture gets by dividing by 255.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from model_zoo.torch_export import export, seed
from test_models import TestModel

LABELS = [str(digit) for digit in range(10)]
REQUIRED_ACCURACY = 0.97


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images N×1×8×8 in 0…1 and digits: three quarters to train on, one quarter held out."""
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return train_test_split(images, digits, test_size=0.25, random_state=0, stratify=digits)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
        nn.Softmax(dim=1),
    )


def train(images: np.ndarray, digits: np.ndarray, epochs: int = 40) -> nn.Module:
    """Fits the network with Adam on images moved by up to one pixel, dimmed and blurred a little."""
    seed()
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    x, y = torch.from_numpy(images), torch.from_numpy(digits)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(32):
            batch = torch.roll(x[rows], tuple(torch.randint(-1, 2, (2,)).tolist()), dims=(2, 3))
            blurred = nn.functional.avg_pool2d(batch, 3, stride=1, padding=1)
            mix = 0.4 * torch.rand(len(rows), 1, 1, 1)
            batch = ((1 - mix) * batch + mix * blurred) * torch.empty(len(rows), 1, 1, 1).uniform_(0.7, 1.1)
            loss = nn.functional.nll_loss(torch.log(model(batch.clamp(0, 1)) + 1e-9), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops what the exporter notes about the exporting machine: source lines and module names."""
    for item in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    return model


def accuracy(model: onnx.ModelProto, images: np.ndarray, digits: np.ndarray) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"input": images})[0].argmax(axis=1)
    return float((found == digits).mean())


def annotate(model: onnx.ModelProto, images: np.ndarray, digits: np.ndarray) -> None:
    """Writes labels and the accuracy on held-out images to the metadata; too low an accuracy is an error."""
    share = accuracy(model, images, digits)
    if share < REQUIRED_ACCURACY:
        raise ValueError(f"accuracy {share:.3f} on the held-out digits, required {REQUIRED_ACCURACY}")
    onnx.helper.set_model_props(model, {"labels": ",".join(LABELS), "held_out_accuracy": f"{share:.4f}"})


class Calibration(CalibrationDataReader):
    """Feeds training images to onnxruntime's calibrator."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter(np.split(images, range(50, len(images), 50)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"input": batch}


def quantize(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """The model in QDQ form: unsigned 8-bit activations, signed 8-bit weights with a scale for each channel."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "MaxPool", "AveragePool", "Reshape", "Relu"],  # not the softmax
        )
        return onnx.load(target)


def picture(image: np.ndarray) -> bytes:
    """An 8×8 image as a grey PNG of 128×128."""
    pixels = np.kron(np.round(image.reshape(8, 8) * 255).astype(np.uint8), np.ones((16, 16), np.uint8))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def pictures(model: nn.Module, images: np.ndarray, digits: np.ndarray) -> dict[str, bytes]:
    """For each digit, the first held-out image that the model is sure of."""
    with torch.no_grad():
        sure = model(torch.from_numpy(images)).numpy()
    chosen = {}
    for digit in range(10):
        index = next(i for i in np.flatnonzero(digits == digit) if sure[i, digit] > 0.99)
        chosen[f"digit-{digit}.png"] = picture(images[index])
    return chosen


def models() -> Iterator[TestModel]:
    images, held_out, digits, held_out_digits = data()
    model = train(images, digits)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "digits.onnx")
        batch = ({0: torch.export.Dim("batch")},)
        export(model, (torch.from_numpy(images[:2]),), path, ["input"], ["probabilities"], batch)
        proto = without_traces(onnx.load(path))
    annotate(proto, held_out, held_out_digits)
    cases = [{"input": held_out[:1]}, {"input": held_out[1:8]}, {"input": held_out[8:40]}]
    files = {**pictures(model, held_out, held_out_digits), "digits.labels.txt": "\n".join([*LABELS, ""]).encode()}
    quantized = quantize(proto, images)
    annotate(quantized, held_out, held_out_digits)
    yield TestModel("digits", proto, cases, files=files)
    yield TestModel("digits_qdq", quantized, cases)
