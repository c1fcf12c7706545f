#!/usr/bin/env python3
"""Runs public packages that import onnxruntime, silero-vad, magika and rapidocr, with Apus in onnxruntime's place, and
compares what they find with what they find over onnxruntime itself. Ends with the line `N passed, N failed, N skipped`;
the exit status is 0 only if nothing failed. Run it with the python that `tools/python-env drop-in` prints; the library
must have been built (`swift build -c release --product apus-c`)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools/python")]

PROBABILITY = 2e-3  # how far two engines may differ after hundreds of recurrent steps
BOX = 2.0  # pixels
MARK = "result: "


# MARK: - silero-vad


def torch_of_numpy() -> ModuleType:
    """What silero-vad's ONNX wrapper needs of torch: arrays that are tensors by name. Torch itself would be a
    gigabyte."""

    class Tensor(np.ndarray):
        def dim(self) -> int:
            return self.ndim

        def unsqueeze(self, axis: int) -> Any:
            return np.expand_dims(self, axis)

        def float(self) -> Any:
            return self.astype(np.float32)

        def numpy(self) -> np.ndarray:
            return np.array(self)

    def tensor(array: Any) -> Any:
        return np.asarray(array).view(Tensor)

    torch = ModuleType("torch")
    torch.Tensor = Tensor
    torch.zeros = lambda *shape: tensor(np.zeros(shape[0] if isinstance(shape[0], tuple) else shape, np.float32))
    torch.from_numpy = tensor
    torch.cat = lambda parts, dim: tensor(np.concatenate(parts, axis=dim))
    torch.set_num_threads = lambda count: None
    # Decorators and annotations of what is not used here.
    torch.no_grad = lambda: lambda function: function
    torch.device = str
    return torch


def speech(seconds: float, rate: int) -> np.ndarray:
    """A sound that a detector takes for speech now and then: buzzing vowels that come and go, over noise."""
    rng = np.random.default_rng(7)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    vowel = np.zeros(time.size)
    for harmonic in range(1, 30):
        for formant in (600, 1200, 2500):
            vowel += np.sin(harmonic * phase) * np.exp(-(((harmonic * 120 - formant) / 250) ** 2))
    gate = (np.sin(2 * np.pi * 3 * time) > -0.3) & (np.sin(2 * np.pi * 0.4 * time) > 0)
    return (0.2 * vowel / np.abs(vowel).max() * gate + 0.003 * rng.standard_normal(time.size)).astype(np.float32)


def silero() -> dict[str, Any]:
    sys.modules["torch"] = torch = torch_of_numpy()
    import silero_vad
    from silero_vad.utils_vad import OnnxWrapper

    found: dict[str, Any] = {}
    data = Path(silero_vad.__file__).parent / "data"
    for name, rate in (("silero_vad.onnx", 16000), ("silero_vad.onnx", 8000), ("silero_vad_op18_ifless.onnx", 16000)):
        model = OnnxWrapper(str(data / name), force_onnx_cpu=True)
        size = 512 if rate == 16000 else 256
        sound = torch.from_numpy(speech(4, rate))
        chunks = [sound[start : start + size] for start in range(0, len(sound) - size, size)]
        found[f"{name} {rate}"] = [float(np.asarray(model(chunk, rate)).item()) for chunk in chunks]
    sequence = silero_vad.SileroVADSequence(data / "silero_vad_16k_sequence.onnx")
    found["sequence"] = np.asarray(sequence.audio_forward(speech(4, 16000))).reshape(-1).tolist()
    return found


def same_probabilities(found: dict[str, Any], expected: dict[str, Any]) -> str:
    for name, values in expected.items():
        a, b = np.array(found[name]), np.array(values)
        if a.shape != b.shape or np.abs(a - b).max() > PROBABILITY:
            return f"{name}: differs by {np.abs(a - b).max() if a.shape == b.shape else (a.shape, b.shape)}"
        if not 0.5 < b.max() <= 1 or b.min() > 0.3:
            return f"{name}: the sound is no test; probabilities from {b.min()} to {b.max()}"
    return ""


# MARK: - magika


def magika_labels() -> dict[str, Any]:
    from magika import Magika

    magika = Magika()
    patterns = ("tools/*.py", "docs/*.md", "Package.swift", "TestModels/*.png", "TestModels/digits.onnx", "LICENSE")
    samples = [path.read_bytes() for pattern in patterns for path in sorted(ROOT.glob(pattern))[:8]]
    # No constant bytes: the model's variance, a mean of squares less the square of the mean, is noise there for every
    # engine.
    noise = np.random.default_rng(1).bytes(3000)
    samples += [b"", b"<html><body>a page</body></html>" * 20, b"\x7fELF\2\1\1" + noise, b'{"a": [1, 2, 3]}' * 30]
    results = [magika.identify_bytes(sample) for sample in samples]
    return {"labels": [str(item.output.label) for item in results], "scores": [float(item.score) for item in results]}


def same_labels(found: dict[str, Any], expected: dict[str, Any]) -> str:
    pairs = [pair for pair in zip(found["labels"], expected["labels"], strict=True) if pair[0] != pair[1]]
    if pairs:
        return f"labels differ: {pairs}"
    difference = float(np.abs(np.array(found["scores"]) - np.array(expected["scores"])).max())
    return f"scores differ by {difference}" if difference > PROBABILITY else ""


# MARK: - rapidocr


def page() -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (640, 260), "white")
    draw = ImageDraw.Draw(image)
    for row, text in enumerate(("Reading text from pictures", "Invoice 2026-0417", "Total: 1,234.56 EUR", "apus apus")):
        draw.text((30, 20 + 58 * row), text, "black", ImageFont.load_default(34))
    return np.array(image)


def ocr() -> dict[str, Any]:
    from rapidocr import RapidOCR

    result = RapidOCR(params={"Global.log_level": "error"})(page())
    boxes = np.asarray(result.boxes).tolist()
    return {"texts": list(result.txts), "scores": list(map(float, result.scores)), "boxes": boxes}


def same_texts(found: dict[str, Any], expected: dict[str, Any]) -> str:
    if found["texts"] != expected["texts"]:
        return f"texts differ: {found['texts']}, expected {expected['texts']}"
    if "Invoice" not in " ".join(expected["texts"]):
        return f"the picture is no test: {expected['texts']}"
    score = float(np.abs(np.array(found["scores"]) - np.array(expected["scores"])).max())
    box = float(np.abs(np.array(found["boxes"]) - np.array(expected["boxes"])).max())
    return f"scores differ by {score}, corners by {box} pixels" if score > PROBABILITY or box > BOX else ""


# MARK: - Both engines, each in a process of its own

Program = tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any], dict[str, Any]], str]]
PROGRAMS: dict[str, Program] = {
    "silero-vad": (silero, same_probabilities),
    "magika": (magika_labels, same_labels),
    "rapidocr": (ocr, same_texts),
}


def result(name: str, engine: str) -> tuple[dict[str, Any] | None, str]:
    """What a program finds over an engine, or why it finds nothing."""
    command = [sys.executable, __file__, "--program", name, "--engine", engine]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode != 0 or not lines:
        return None, f"{engine} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
    return json.loads(lines[-1].removeprefix(MARK)), ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", choices=PROGRAMS, help="run one program over one engine and print what it finds")
    parser.add_argument("--engine", choices=("apus", "onnxruntime"), default="apus")
    arguments = parser.parse_args()
    if arguments.program:
        if arguments.engine == "apus":
            import apus.compat

            apus.compat.install()
        found = PROGRAMS[arguments.program][0]()
        import onnxruntime

        assert (onnxruntime.__name__ == "apus.compat") == (arguments.engine == "apus"), onnxruntime
        print(MARK + json.dumps(found))
        return 0
    failed = 0
    for name, (_, compare) in PROGRAMS.items():
        found, reason = result(name, "apus")
        expected, other = result(name, "onnxruntime")
        reason = reason or other
        if found is not None and expected is not None:
            reason = compare(found, expected)
        failed += bool(reason)
        print(f"{name}: {reason or 'the same'}")
    print(f"{len(PROGRAMS) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
