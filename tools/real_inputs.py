"""Inputs made from real pictures and sound for the trained models that are kept apart from this project.

Each function takes the folder of the model and returns labelled feeds; `REAL_INPUTS` finds it by the model's file name.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from model_inputs import Feeds

TEST_MODELS = Path(__file__).resolve().parent.parent / "TestModels"


def mnist(folder: Path) -> list[tuple[str, Feeds]]:
    """Digits of TestModels, drawn 20 pixels high on 28×28 paper, ink 1."""
    trials = []
    for digit in (7, 3, 0):
        page = Image.new("L", (28, 28))
        page.paste(Image.open(TEST_MODELS / f"digit-{digit}.png").resize((20, 20)), (4, 4))
        trials.append((f"digit {digit}", {"Input3": np.asarray(page, np.float32)[None, None] / 255}))
    return trials


def ultraface(folder: Path) -> list[tuple[str, Feeds]]:
    """Photographs at 320×240 as the model's card has them: RGB, (x − 127) / 128."""
    trials = []
    for name in ("faces-a.jpg", "faces-b.jpg"):
        photo = np.asarray(Image.open(folder / name).convert("RGB").resize((320, 240)), np.float32)
        trials.append((name, {"input": ((photo - 127) / 128).transpose(2, 0, 1)[None]}))
    return trials


def silero_vad(folder: Path) -> list[tuple[str, Feeds]]:
    """Pieces of speech at 16 kHz with the state that onnxruntime carries from piece to piece, then one at 8 kHz."""
    with wave.open(str(folder / "speech-16k.wav")) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    session = onnxruntime.InferenceSession(str(folder / "silero_vad.onnx"), providers=["CPUExecutionProvider"])
    state = np.zeros((2, 1, 128), np.float32)
    trials = []
    for piece in range(len(sound) // 512):
        start = max(0, piece * 512 - 64)
        samples = sound[start : piece * 512 + 512]
        samples = np.pad(samples, (576 - len(samples), 0))[None]
        feeds = {"input": samples, "state": state, "sr": np.array(16000)}
        if piece in (0, 60, 80):
            trials.append((f"piece {piece}", feeds))
        state = session.run(None, feeds)[1]
    slow = sound[60 * 512 : 60 * 512 + 576 : 2][None]
    trials.append(("8 kHz", {"input": slow, "state": np.zeros_like(state), "sr": np.array(8000)}))
    return trials


REAL_INPUTS: dict[str, Callable[[Path], list[tuple[str, Feeds]]]] = {
    "mnist.onnx": mnist,
    "ultraface-rfb-320.onnx": ultraface,
    "silero_vad.onnx": silero_vad,
}
