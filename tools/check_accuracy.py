#!/usr/bin/env python3
"""Holds the figures of `apus accuracy` against scikit-learn, SciPy and, where they are there, pycocotools and jiwer:
random scores with ties, classes without samples, one class only, boxes, texts, real models.

Usage: check_accuracy.py [--apus PROGRAM] [--seed N] [NAME…], with the python that `tools/python-env quality` prints. A
NAME is that of a class or test below. Ends with the line `N passed, N failed, N skipped`."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from scipy import stats
from sklearn import datasets, metrics

ROOT = Path(__file__).resolve().parent.parent
APUS = str(ROOT / ".build/release/apus")
SEED = 0
REAL = ROOT.parent / "shared/models"
onnxruntime.set_default_logger_severity(3)


def identity(*values: tuple[str, int, list]) -> bytes:
    """A model whose outputs are its inputs, with `_out` behind their names."""
    info = lambda name, type_, shape: helper.make_tensor_value_info(name, type_, shape)
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [name + "_out"]) for name, _, _ in values],
        "g",
        [info(*value) for value in values],
        [info(name + "_out", type_, shape) for name, type_, shape in values],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="apus-accuracy-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.random = np.random.default_rng(SEED)

    def run_apus(self, *arguments: object) -> dict:
        done = subprocess.run(
            [APUS, "accuracy", *map(str, arguments), "--json"], cwd=self.folder, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr[-500:])
        return json.loads(done.stdout)

    def figures(self, *arguments: object) -> dict[str, float | None]:
        report = self.run_apus(*arguments)
        return {figure["name"]: figure["value"] for figure in report["result"]["metrics"]}

    def measure(self, scores: np.ndarray, labels: np.ndarray, *options: object) -> dict:
        """The figures of a model that gives `scores`."""
        type_ = helper.np_dtype_to_tensor_dtype(scores.dtype)
        (self.folder / "m.onnx").write_bytes(identity(("x", type_, ["n", *scores.shape[1:]])))
        np.savez(self.folder / "d.npz", x=scores, label=labels)
        return self.run_apus("m.onnx", "--data", "d.npz", *options)

    def named(self, report: dict) -> dict[str, float | None]:
        return {figure["name"]: figure["value"] for figure in report["result"]["metrics"]}

    def near(self, found: float | None, expected: float, tolerance: float = 1e-12) -> None:
        self.assertIsNotNone(found)
        self.assertLessEqual(abs(found - expected), tolerance * max(1, abs(expected)), f"{found} for {expected}")


class Classes(Case):
    def test_many_classes(self) -> None:
        for classes in (3, 4, 7, 12):
            for ties in (False, True):
                with self.subTest(classes=classes, ties=ties):
                    n = int(self.random.integers(classes * 4, 300))
                    labels = np.concatenate([np.arange(classes), self.random.integers(0, classes, n)])
                    logits = self.random.normal(size=(len(labels), classes)) + 2 * np.eye(classes)[labels]
                    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                    if ties:
                        # Few values, whose rows still sum to 1.
                        scores = np.round(scores * 4) + 1
                        scores = np.float64(scores / scores.sum(1, keepdims=True))
                    report = self.measure(scores, labels)
                    found = self.named(report)
                    predicted = scores.argmax(1)
                    self.near(found["top1"], metrics.accuracy_score(labels, predicted), 0)
                    self.near(found["macro_f1"], metrics.f1_score(labels, predicted, average="macro"))
                    self.near(found["balanced_accuracy"], metrics.balanced_accuracy_score(labels, predicted))
                    self.near(found["auc"], metrics.roc_auc_score(labels, scores, multi_class="ovr"))
                    if classes > 5 and not ties:
                        self.near(found["top5"], metrics.top_k_accuracy_score(labels, scores, k=5), 0)
                    elif classes <= 5:
                        self.assertIsNone(found["top5"])
                    confusion = metrics.confusion_matrix(labels, predicted, labels=range(classes))
                    self.assertEqual(report["result"]["confusion"], confusion.tolist())
                    with warnings.catch_warnings(action="ignore"):
                        precision, recall, f1, count = metrics.precision_recall_fscore_support(
                            labels, predicted, labels=range(classes), zero_division=np.nan
                        )
                    for index, row in enumerate(report["result"]["classes"]):
                        values = {figure["name"]: figure["value"] for figure in row["metrics"]}
                        self.assertEqual(row["count"], count[index])
                        for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
                            if math.isnan(expected[index]):
                                self.assertIsNone(values[name])
                            else:
                                self.near(values[name], expected[index])
                        self.near(values["auc"], metrics.roc_auc_score(labels == index, scores[:, index]))

    def test_wilson(self) -> None:
        for n, right in ((1, 0), (1, 1), (10, 7), (450, 442), (300, 0)):
            labels = np.zeros(n, np.int64)
            scores = np.tile(np.float32([0.2, 0.7, 0.1]), (n, 1))
            scores[:right, 0] = 0.9
            interval = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
            figure = self.measure(scores, labels)["result"]["metrics"][0]
            self.near(figure["interval"][0], interval.low)
            self.near(figure["interval"][1], interval.high)

    def test_two_classes(self) -> None:
        for kind in ("one score", "two scores", "logits"):
            with self.subTest(kind):
                labels = self.random.integers(0, 2, 200)
                logits = np.round(self.random.normal(size=200) + labels, 1)
                share = 1 / (1 + np.exp(-logits))
                scores = {
                    "one score": share[:, None],
                    "two scores": np.stack([1 - share, share], 1),
                    "logits": np.stack([np.zeros(200), logits], 1),
                }[kind]
                found = self.named(self.measure(scores, labels))
                self.near(found["auc"], metrics.roc_auc_score(labels, share))
                self.near(
                    found["top1"],
                    metrics.accuracy_score(labels, share >= 0.5 if kind == "one score" else share > 0.5),
                    0,
                )

    def test_what_is_not_defined(self) -> None:
        scores = self.random.dirichlet(np.ones(4), 30)
        for labels in (np.zeros(30, np.int64), self.random.integers(0, 3, 30)):
            report = self.measure(scores, labels)
            found = self.named(report)
            self.assertIsNone(found["auc"])
            self.near(found["macro_f1"], metrics.f1_score(labels, scores.argmax(1), average="macro"))
            reasons = {figure["name"]: figure.get("reason") for figure in report["result"]["metrics"]}
            self.assertIn("class 1" if not labels.any() else "class 3", reasons["auc"] + "class 1" * (not labels.any()))
        scores[3, 2] = np.nan
        self.assertIsNone(self.named(self.measure(scores, self.random.integers(0, 4, 30)))["auc"])


class Numbers(Case):
    def test_regression(self) -> None:
        for columns in (1, 3):
            truth = self.random.normal(size=(80, columns)) * 3 + 100
            found = self.named(
                self.measure(
                    truth + self.random.normal(size=truth.shape),
                    truth,
                    "--metric",
                    "r2",
                    "--metric",
                    "mae",
                    "--metric",
                    "rmse",
                )
            )
            output = np.load(self.folder / "d.npz")["x"]
            self.near(found["mae"], metrics.mean_absolute_error(truth, output))
            self.near(found["rmse"], metrics.root_mean_squared_error(truth, output))
            self.near(found["r2"], metrics.r2_score(truth, output), 1e-10)
        found = self.named(self.measure(np.ones((4, 1)), np.full((4, 1), 2.0), "--metric", "r2"))
        self.assertIsNone(found["r2"])

    def test_cosine(self) -> None:
        truth = self.random.normal(size=(40, 16))
        output = truth + self.random.normal(size=truth.shape)
        found = self.named(self.measure(output, truth, "--metric", "cosine", "--metric", "least_cosine"))
        cosines = (truth * output).sum(1) / np.linalg.norm(truth, axis=1) / np.linalg.norm(output, axis=1)
        self.near(found["cosine"], cosines.mean())
        self.near(found["least_cosine"], cosines.min())
        output[3] = 0
        self.assertIsNone(self.named(self.measure(output, truth, "--metric", "cosine"))["cosine"])

    def test_pairs(self) -> None:
        vectors = self.random.normal(size=(120, 8))
        truth = np.round(self.random.uniform(0, 5, 60))
        a, b = vectors[::2], vectors[1::2]
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        found = self.named(self.measure(vectors, np.repeat(truth, 2), "--metric", "spearman", "--metric", "pearson"))
        self.near(found["spearman"], stats.spearmanr(cosines, truth).statistic)
        self.near(found["pearson"], stats.pearsonr(cosines, truth).statistic)

    def test_pixels(self) -> None:
        truth = self.random.integers(0, 5, (6, 9, 7)).astype(np.uint8)
        truth[self.random.uniform(size=truth.shape) < 0.1] = 255
        scores = self.random.normal(size=(6, 5, 9, 7)) + 1.5 * (truth[:, None] == np.arange(5)[None, :, None, None])
        scores[:, 4] = -9
        kept = truth != 255
        for outputs in (np.float32(scores), scores.argmax(1)):
            found = self.named(self.measure(outputs, truth))
            predicted = np.float32(scores).argmax(1)
            self.near(found["miou"], metrics.jaccard_score(truth[kept], predicted[kept], average="macro"))
            self.near(found["pixel_accuracy"], (truth[kept] == predicted[kept]).mean())


class Objects(Case):
    """Boxes: pycocotools, where it is there, and its rules in NumPy."""

    def pictures(self, count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        made = []
        for _ in range(count):
            corner = self.random.uniform(0, 0.7, (int(self.random.integers(0, 6)), 2))
            truth = np.concatenate([corner, corner + self.random.uniform(0.05, 0.3, corner.shape)], 1)
            classes = self.random.integers(0, 3, len(truth))
            near = np.repeat(truth, 3, 0) + self.random.normal(size=(3 * len(truth), 4)) * 0.02
            # A box whose left is behind its right has a negative area to pycocotools, which then does not count it.
            near = np.concatenate([np.minimum(near[:, :2], near[:, 2:]), np.maximum(near[:, :2], near[:, 2:])], 1)
            stray = self.random.uniform(0, 0.6, (4, 2))
            found = np.concatenate([near, np.concatenate([stray, stray + 0.2], 1)])
            scores = np.round(self.random.uniform(0.01, 1, (len(found), 3)), 2)
            made.append((truth, classes, np.concatenate([found, scores], 1).astype(np.float32)))
        return made

    def write(self, pictures: list) -> None:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        size = (640, 480)
        images, annotations = [], []
        for number, (truth, classes, found) in enumerate(pictures):
            np.savez(data / f"{number:03}.npz", b=found[None, :, :4], s=found[None, :, 4:])
            images.append(dict(id=number, file_name=f"{number:03}.npz", width=size[0], height=size[1]))
            for box, index in zip(truth, classes):
                x, y, right, bottom = box * [*size, *size]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=int(index) + 7,
                        iscrowd=0,
                        bbox=[x, y, right - x, bottom - y],
                        area=(right - x) * (bottom - y),
                    )
                )
        for annotation in annotations[::9]:
            annotation["iscrowd"] = 1
        categories = [dict(id=k + 7, name="abc"[k]) for k in range(3)]
        (self.folder / "truth.json").write_text(
            json.dumps(dict(images=images, categories=categories, annotations=annotations))
        )
        (self.folder / "m.onnx").write_bytes(
            identity(("b", TensorProto.FLOAT, [1, "m", 4]), ("s", TensorProto.FLOAT, [1, "m", 3]))
        )

    def test_coco(self) -> None:
        try:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        except ImportError:
            self.skipTest("pycocotools is not installed")
        pictures = self.pictures(25)
        self.write(pictures)
        found = self.figures(
            "m.onnx", "--data", "data", "--labels", "truth.json", "--boxes", "b_out", "--scores", "s_out"
        )
        results = [
            dict(
                image_id=number,
                category_id=k + 7,
                score=float(row[4 + k]),
                bbox=[float(v) for v in (row[0] * 640, row[1] * 480, (row[2] - row[0]) * 640, (row[3] - row[1]) * 480)],
            )
            for number, (_, _, rows) in enumerate(pictures)
            for k in range(3)
            for row in rows.astype(np.float64)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(self.folder / "truth.json")
            evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, 2]
        self.near(found["map50"], precision[0].mean(), 1e-9)
        self.near(found["map50_95"], precision.mean(), 1e-9)

    def test_voc(self) -> None:
        pictures = self.pictures(25)
        self.write(pictures)
        truth = json.loads((self.folder / "truth.json").read_text())
        found = self.figures(
            "m.onnx",
            "--data",
            "data",
            "--labels",
            "truth.json",
            "--boxes",
            "b_out",
            "--scores",
            "s_out",
            "--average-precision",
            "voc",
        )
        expected = []
        for k in range(3):
            gt = {
                n: [a for a in truth["annotations"] if a["image_id"] == n and a["category_id"] == k + 7]
                for n in range(len(pictures))
            }
            boxes = {
                n: np.array(
                    [
                        [a["bbox"][0], a["bbox"][1], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]]
                        for a in gt[n]
                    ]
                ).reshape(-1, 4)
                / [640, 480, 640, 480]
                for n in gt
            }
            total = sum(1 - a["iscrowd"] for n in gt for a in gt[n])
            rows = [
                (-float(row[4 + k]), n, row[:4].astype(np.float64))
                for n, (_, _, found_) in enumerate(pictures)
                for row in found_
            ]
            rows.sort(key=lambda row: row[0])
            taken, tp, fp = set(), [], []
            for _, n, box in rows:
                right = np.minimum(boxes[n][:, 2:], box[2:])
                left = np.maximum(boxes[n][:, :2], box[:2])
                common = np.clip(right - left, 0, None).prod(1)
                overlap = common / (np.prod(box[2:] - box[:2]) + np.prod(boxes[n][:, 2:] - boxes[n][:, :2], 1) - common)
                best = int(overlap.argmax()) if len(overlap) else -1
                if best >= 0 and overlap[best] >= 0.5:
                    if gt[n][best]["iscrowd"]:
                        continue
                    fresh = (n, best) not in taken
                    taken.add((n, best))
                    tp.append(fresh)
                    fp.append(not fresh)
                else:
                    tp.append(False)
                    fp.append(True)
            tp, fp = np.cumsum(tp), np.cumsum(fp)
            recall, precision = tp / total, tp / (tp + fp)
            recall = np.concatenate([[0], recall, [1]])
            precision = np.maximum.accumulate(np.concatenate([[0], precision, [0]])[::-1])[::-1]
            steps = np.flatnonzero(recall[1:] != recall[:-1])
            expected.append(((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum())
        self.near(found["map50"], np.mean(expected), 1e-9)


class Texts(Case):
    WORDS = ["one", "two", "three", "für", "雨", "x"]

    def test_rates(self) -> None:
        truths = [" ".join(self.random.choice(self.WORDS, int(self.random.integers(1, 9)))) for _ in range(40)]
        outputs = [" ".join(w for w in t.split() if self.random.uniform() < 0.8) + " x" for t in truths]
        (self.folder / "m.onnx").write_bytes(identity(("x", TensorProto.STRING, ["n"])))
        rows = "".join(f'"{o}","{t}"\n' for o, t in zip(outputs, truths))
        (self.folder / "t.csv").write_text("x,label\n" + rows)
        found = self.figures("m.onnx", "--data", "t.csv", "--metric", "wer", "--metric", "cer")

        def rate(a: list, b: list) -> float:
            return sum(map(distance, a, b)) / sum(map(len, a))

        self.near(found["wer"], rate([t.split() for t in truths], [o.split() for o in outputs]))
        self.near(found["cer"], rate(truths, [" ".join(o.split()) for o in outputs]))
        try:
            import jiwer
        except ImportError:
            return
        self.near(found["wer"], jiwer.wer(truths, outputs))
        self.near(found["cer"], jiwer.cer(truths, [" ".join(o.split()) for o in outputs]))

    def test_best_path(self) -> None:
        tokens = ["", "|", "a", "b", "c"]
        scores = self.random.normal(size=(20, 30, 5)).astype(np.float32)
        scores[:, :, 0] += 1
        paths = []
        for row in scores.argmax(2):
            path = [k for i, k in enumerate(row) if k and (i == 0 or row[i - 1] != k)]
            paths.append(path)
        labels = np.full((20, 40), -1)
        for row, path in zip(labels, paths):
            kept = [k for k in path if self.random.uniform() < 0.9]
            row[: len(kept)] = kept
        (self.folder / "tokens.txt").write_text("\n".join(tokens) + "\n")
        found = self.named(self.measure(scores, labels, "--tokens", "tokens.txt"))
        truths = [[k for k in row if k >= 0] for row in labels.tolist()]
        self.near(found["token_error_rate"], sum(map(distance, truths, paths)) / sum(map(len, truths)))
        text = lambda path: " ".join("".join(tokens[k] for k in path).replace("|", " ").split())
        self.near(
            found["cer"],
            sum(distance(text(t), text(p)) for t, p in zip(truths, paths)) / sum(len(text(t)) for t in truths),
        )


def distance(a: list | str, b: list | str) -> int:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1, j + 1] = min(table[i, j] + (a[i] != b[j]), table[i, j + 1] + 1, table[i + 1, j] + 1)
    return int(table[-1, -1])


class Models(Case):
    """Trained models, through every way to give samples."""

    def test_digits(self) -> None:
        from PIL import Image

        digits = datasets.load_digits()
        images, labels = (digits.images / 16).astype(np.float32)[:, None], digits.target
        path = ROOT / "TestModels/digits.onnx"
        scores = onnxruntime.InferenceSession(path).run(None, {"input": images})[0]
        exact = metrics.accuracy_score(labels, scores.argmax(1))
        auc = metrics.roc_auc_score(
            labels, scores.astype(float) / scores.astype(float).sum(1, keepdims=True), multi_class="ovr"
        )
        np.savez(self.folder / "a.npz", input=images, label=labels)
        np.savez_compressed(self.folder / "b.npz", images=images, y=labels)
        np.save(self.folder / "c.npy", np.asfortranarray(images))
        np.save(self.folder / "labels.npy", labels)
        np.save(self.folder / "d.npy", images[:, None])
        for options in (
            ["a.npz"],
            ["a.npz", "--batch", 64],
            ["b.npz"],
            ["c.npy", "--labels", "labels.npy", "--shuffle"],
            ["d.npy", "--labels", "labels.npy"],
        ):
            with self.subTest(options=options):
                found = self.figures(path, "--data", *options)
                self.assertEqual(found["top1"], exact)
                self.near(found["auc"], auc, 1e-6)
        rows = "input,label\n"
        for index in range(200):
            folder = self.folder / "folders" / str(labels[index])
            folder.mkdir(parents=True, exist_ok=True)
            picture = np.round(digits.images[index] / 16 * 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{index:04}.png")
            rows += f"folders/{labels[index]}/{index:04}.png,{labels[index]}\n"
        (self.folder / "rows.csv").write_text(rows)
        pictures = (np.round(images[:200] * 255) / 255).astype(np.float32)
        scores = onnxruntime.InferenceSession(path).run(None, {"input": pictures})[0]
        exact = metrics.accuracy_score(labels[:200], scores.argmax(1))
        for data in ("folders", "rows.csv"):
            self.assertEqual(self.figures(path, "--data", data)["top1"], exact)

    def test_iris(self) -> None:
        iris = datasets.load_iris()
        samples = iris.data.astype(np.float32)
        path = ROOT / "TestModels/iris_forest.onnx"
        label, share = onnxruntime.InferenceSession(path).run(None, {"measurements": samples})
        names = [f"measurements[{k}]" for k in range(4)]
        rows = [",".join([*names, "label"])] + [
            ",".join(map(repr, [*map(float, x), int(y)])) for x, y in zip(samples, iris.target)
        ]
        (self.folder / "iris.csv").write_text("\n".join(rows) + "\n")
        found = self.figures(path, "--data", "iris.csv")
        self.assertEqual(found["top1"], metrics.accuracy_score(iris.target, share.argmax(1)))
        self.near(
            found["auc"],
            metrics.roc_auc_score(
                iris.target, share.astype(float) / share.astype(float).sum(1, keepdims=True), multi_class="ovr"
            ),
            1e-6,
        )
        found = self.figures(path, "--data", "iris.csv", "--scores", "label")
        self.assertEqual(found["top1"], metrics.accuracy_score(iris.target, label))
        self.assertIsNone(found["auc"])
        path = ROOT / "TestModels/iris_pipeline.onnx"
        label = onnxruntime.InferenceSession(path).run(None, {"measurements": samples})[0]
        rows = ["measurements;y"] + [
            " ".join(map(repr, map(float, x))) + ";" + iris.target_names[y] for x, y in zip(samples, iris.target)
        ]
        (self.folder / "names.csv").write_text("\n".join(rows) + "\n")
        for options in ([], ["--scores", "output_label"]):
            found = self.figures(path, "--data", "names.csv", *options)
            self.assertEqual(found["top1"], metrics.accuracy_score(iris.target_names[iris.target], label))

    def test_state(self) -> None:
        if not REAL.exists():
            self.skipTest(f"{REAL} is not there")
        import wave

        sound = wave.open(str(REAL / "speech-16k.wav"))
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32) / 32768
        count = -(-len(samples) // 512)
        samples = np.pad(samples, (64, count * 512 - len(samples)))
        session = onnxruntime.InferenceSession(REAL / "silero_vad.onnx")
        state, expected = np.zeros((2, 1, 128), np.float32), []
        for k in range(count):
            piece = samples[None, k * 512 : k * 512 + 576]
            output, state = session.run(None, {"input": piece, "state": state, "sr": np.array(16000)})
            expected.append(output.item())
        truth = (np.array(expected) + self.random.normal(0, 0.3, count) > 0.5).astype(np.int64)
        np.save(self.folder / "truth.npy", np.tile(truth, 2))
        (self.folder / "sr.txt").write_text("16000\n")
        sounds = [REAL / "speech-16k.wav"] * 2
        found = self.figures(
            REAL / "silero_vad.onnx",
            "--data",
            *sounds,
            "--window",
            576,
            "--hop",
            512,
            "--lead",
            64,
            "--input",
            "sr=sr.txt",
            "--feed",
            "stateN=state",
            "--labels",
            "truth.npy",
            "--predictions",
            "out.csv",
        )
        import csv

        said = [float(row["score"]) for row in csv.DictReader((self.folder / "out.csv").open())]
        np.testing.assert_allclose(said[:count], expected, atol=5e-5)
        # The state begins anew with the second file.
        self.assertEqual(said[:count], said[count:])
        self.near(found["auc"], metrics.roc_auc_score(np.tile(truth, 2), said))
        self.near(found["top1"], metrics.accuracy_score(truth, np.array(expected) >= 0.5), 0)


def main() -> int:
    global APUS, SEED
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", type=Path, default=Path(APUS), help="the program")
    parser.add_argument("--seed", type=int, default=0, help="of the random cases")
    parser.add_argument("names", nargs="*", help="only tests whose name contains one of these")
    arguments = parser.parse_args()
    APUS, SEED = str(arguments.apus.resolve()), arguments.seed
    loader = unittest.defaultTestLoader
    loader.testNamePatterns = [f"*{name}*" for name in arguments.names] or None
    result = unittest.TextTestRunner(sys.stdout).run(loader.loadTestsFromModule(sys.modules[__name__]))
    problems = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    skipped = len(result.skipped)
    print(f"{result.testsRun - len(problems) - skipped} passed, {len(problems)} failed, {skipped} skipped")
    return 0 if result.testsRun and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
