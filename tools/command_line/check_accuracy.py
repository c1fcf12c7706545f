"""Samples and figures of accuracy: every way to name data, labels and state, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import subprocess

import numpy as np
from onnx import TensorProto, helper

from . import program
from .check_inputs import wave
from .program import Case, constant, identity, model, tensor

T = TensorProto


def pgm(pixels: np.ndarray) -> bytes:
    return b"P5 %d %d 255\n" % pixels.shape[::-1] + pixels.astype(np.uint8).tobytes()


class Accuracy(Case):
    def setUp(self) -> None:
        super().setUp()
        random = np.random.default_rng(5)
        self.scores = random.uniform(size=(20, 3)).astype(np.float32)
        self.labels = random.integers(0, 3, 20)
        self.right = float((self.scores.argmax(1) == self.labels).mean())
        self.save(identity(shape=["n", 3]))

    def figures(self, *arguments: object) -> dict[str, float | None]:
        report = self.json("accuracy", "model.onnx", *arguments)
        return {figure["name"]: figure["value"] for figure in report["result"]["metrics"]}

    def refuse(self, *arguments: object, words: str = "error", status: int = 1) -> None:
        error = self.apus("accuracy", "model.onnx", *arguments, status=status).stderr.decode()
        self.assertRegex(error, words)
        self.assertFalse(self.leftovers())

    def test_every_way_to_name_samples(self) -> None:
        np.savez(self.path("a.npz"), x=self.scores, label=self.labels)
        np.savez_compressed(self.path("b.npz"), anything=self.scores, truth=self.labels)
        self.array("c.npy", self.scores)
        self.array("labels.npy", self.labels)
        self.path("d").mkdir()
        for index in range(20):
            folder = self.path(f"d/class{self.labels[index]}")
            folder.mkdir(exist_ok=True)
            np.save(folder / f"{index}.npy", self.scores[index : index + 1])
        rows = [f'"{" ".join(map(str, row))}",{label}' for row, label in zip(self.scores, self.labels)]
        self.write("e.csv", "\n".join(["x,label", *rows]) + "\n")
        rows = ["x[0];x[1];x[2];y\r"] + [";".join(map(str, [*r, l])) + "\r" for r, l in zip(self.scores, self.labels)]
        self.write("f.csv", "\ufeff" + "\n".join(rows))
        for options in (
            ["a.npz"],
            ["x=a.npz", "--batch", 6],
            ["b.npz", "--label-array", "truth"],
            ["c.npy", "--labels", "labels.npy"],
            ["d"],
            ["e.csv"],
            ["f.csv", "--batch", 3],
            ["a.npz", "--shuffle", "--seed", 3],
        ):
            with self.subTest(options=options):
                self.assertEqual(self.figures("--data", *options)["top1"], self.right)
        self.assertEqual(self.json("accuracy", "model.onnx", "--data", "a.npz", "a.npz")["samples"], 40)
        report = self.json("accuracy", "model.onnx", "--data", "a.npz", "--limit", 7)
        self.assertEqual(report["samples"], 7)
        self.assertEqual(
            [row["name"] for row in self.json("accuracy", "model.onnx", "--data", "d")["result"]["classes"]],
            ["class0", "class1", "class2"],
        )

    def test_labels_order_the_folders(self) -> None:
        for name in ("b", "a", "c"):
            self.path(f"d/{name}").mkdir(parents=True)
        np.save(self.path("d/c/0.npy"), np.float32([[9, 0, 0]]))
        np.save(self.path("d/a/0.npy"), np.float32([[0, 0, 9]]))
        self.assertEqual(self.figures("--data", "d")["top1"], 0)
        self.assertEqual(self.figures("--data", "d", "--labels", self.write("l.txt", "c\nb\na\n"))["top1"], 1)
        self.refuse("--data", "d", "--labels", self.write("l.txt", "a\nb\n"), words="'c' of d is no class")

    def test_pictures(self) -> None:
        self.save(identity(T.FLOAT, [1, 1, 2, 3]))
        for index in range(4):
            self.path(f"d/{index % 2}").mkdir(parents=True, exist_ok=True)
            self.path(f"d/{index % 2}/{index}.pgm").write_bytes(pgm(np.full((2, 3), index)))
        # The numbers are the pictures; the second folder is the truth, which each has to be near.
        self.apus(
            "accuracy", "model.onnx", "--data", "d", "--scale", 1, "--mean", 1, "--predictions", "p.csv", status=1
        )
        self.path("flat").mkdir()
        for index in range(4):
            self.path(f"flat/{index}.pgm").write_bytes(pgm(np.full((2, 3), index)))
        self.apus("accuracy", "model.onnx", "--data", "flat", "--scale", 1, "--mean", 1, "--predictions", "p.csv")
        with self.path("p.csv").open() as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["sample"] for row in rows], [f"flat/{index}.pgm" for index in range(4)])
        self.assertEqual([row["prediction"].split()[0] for row in rows], ["-1.0", "0.0", "1.0", "2.0"])
        self.write("flat/bad.png", b"\x89PNG no more")
        self.refuse("--data", "flat", "--predictions", "p.csv", words="--data: flat/bad.png: ")

    def test_pixels(self) -> None:
        self.save(identity(T.FLOAT, [1, 2, 2, 2]))
        scores = np.zeros((1, 2, 2, 2), np.float32)
        scores[0, 1, 0] = 1
        self.array("s.npy", scores)
        self.write("mask.pgm", pgm(np.array([[1, 1], [1, 0]])))
        self.write("t.csv", "x,label\ns.npy,mask.pgm\n")
        found = self.figures("--data", "t.csv")
        self.assertAlmostEqual(found["miou"], (2 / 3 + 1 / 2) / 2)

    def test_several_inputs(self) -> None:
        add = model(
            [helper.make_node("Add", ["a", "b"], ["y"])],
            [tensor("a", ["n", 2]), tensor("b", [2])],
            [tensor("y", ["n", 2])],
        )
        self.save(add)
        truth = np.array([0, 1, 0])
        a = np.float32([[1, 0], [0, 1], [0, 0.5]])
        self.array("b.npy", np.float32([1, 0]))
        self.array("a.npy", a)
        np.savez(self.path("all.npz"), a=a, b=np.float32([1, 0]), y=truth)
        self.array("y.npy", truth)
        exact = ((a + [1, 0]).argmax(1) == truth).mean()
        self.assertEqual(self.figures("--data", "all.npz")["top1"], exact)
        self.assertEqual(self.figures("--data", "a.npy", "-i", "b=b.npy", "--labels", "y.npy")["top1"], exact)
        self.assertEqual(
            self.figures("--data", "a=a.npy", "-i", "b=b.npy", "--labels", "y.npy", "--batch", 2)["top1"], exact
        )
        self.refuse("--data", "a.npy", "--labels", "y.npy", words="several inputs without a value: a .*, b ")
        np.savez(self.path("odd.npz"), a=a, b=np.ones((2, 2), np.float32))
        self.refuse("--data", "odd.npz", words="other numbers of samples")

    def test_state_and_windows(self) -> None:
        # y = the sum of a piece plus the state; the state is the last y.
        made = model(
            [
                helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
                helper.make_node("Add", ["sum", "state"], ["y"]),
            ],
            [tensor("x", [1, 4]), tensor("state", [])],
            [tensor("y", [])],
        )
        self.save(made)
        sound = np.arange(10, dtype=np.float32) / 16
        for name in ("a.wav", "b.wav"):
            self.write(name, wave(sound, code=3))
        self.apus(
            "accuracy",
            "model.onnx",
            "--data",
            "a.wav",
            "b.wav",
            "--window",
            4,
            "--hop",
            3,
            "--lead",
            2,
            "--feed",
            "y=state",
            "--predictions",
            "p.csv",
        )
        padded = np.concatenate([np.zeros(2), sound, np.zeros(4)])
        expected = np.cumsum([padded[k : k + 4].sum() for k in (0, 3, 6, 9)])
        with self.path("p.csv").open() as file:
            rows = list(csv.DictReader(file))
        np.testing.assert_allclose([float(row["prediction"]) for row in rows], np.tile(expected, 2))
        self.assertEqual(rows[5]["sample"], "b.wav[1]")
        self.write("s.txt", "100")
        self.apus(
            "accuracy",
            "model.onnx",
            "--data",
            "a.wav",
            "--window",
            4,
            "--feed",
            "y=state",
            "-i",
            "state=s.txt",
            "--predictions",
            "p.csv",
        )
        with self.path("p.csv").open() as file:
            self.assertAlmostEqual(float(next(csv.DictReader(file))["prediction"]), 100 + sound[:4].sum(), 4)
        self.refuse("--data", "a.wav", "--window", 5, "--feed", "y=state", words="which takes 4")
        self.refuse("--data", "a.wav", "--window", 4, "--feed", "z=state", words="no output 'z'")
        self.refuse("--data", "a.wav", "--window", 4, "--feed", "y=z", words="no input 'z'")
        self.refuse("--data", "a.wav", "--hop", 4, status=2)

    def test_against(self) -> None:
        np.savez(self.path("a.npz"), x=self.scores, label=self.labels)
        other = model(
            [helper.make_node("Mul", ["x", "w"], ["y"])],
            [tensor("x", ["n", 3])],
            [tensor("y", ["n", 3])],
            [constant("w", np.float32([1, 1, 1.5]))],
        )
        self.save(other, "other.onnx")
        report = self.json("accuracy", "model.onnx", "--data", "a.npz", "--against", "other.onnx")
        figures = {figure["name"]: figure["value"] for figure in report["against"]["metrics"]}
        changed = self.scores * np.float32([1, 1, 1.5])
        self.assertEqual(figures["agreement"], (self.scores.argmax(1) == changed.argmax(1)).mean())
        self.assertAlmostEqual(figures["largest_difference"], float(np.abs(changed - self.scores).max()))
        self.assertEqual(report["against"]["worst_sample"], f"a.npz[{np.abs(changed - self.scores).max(1).argmax()}]")
        difference = {entry["name"]: entry.get("value") for entry in report["against"]["differences"]}
        self.assertAlmostEqual(difference["top1"], self.right - (changed.argmax(1) == self.labels).mean())
        # Without labels the models can still be compared.
        self.array("x.npy", self.scores)
        report = self.json("accuracy", "model.onnx", "--data", "x.npy", "--against", "other.onnx")
        self.assertEqual(report["result"]["metrics"], [])
        self.assertEqual(report["against"]["metrics"][0]["value"], figures["agreement"])

    def test_predictions(self) -> None:
        np.savez(self.path("a.npz"), x=self.scores, label=self.labels)
        self.apus(
            "accuracy",
            "model.onnx",
            "--data",
            "a.npz",
            "--predictions",
            "p.csv",
            "--labels",
            self.write("l.txt", 'a,b\n"q"\nc\n'),
        )
        with self.path("p.csv").open() as file:
            rows = list(csv.DictReader(file))
        names = ["a,b", '"q"', "c"]
        self.assertEqual([row["label"] for row in rows], [names[k] for k in self.labels])
        self.assertEqual([row["prediction"] for row in rows], [names[k] for k in self.scores.argmax(1)])
        np.testing.assert_array_equal(np.float32([float(row["score"]) for row in rows]), self.scores.max(1))
        self.refuse("--data", "a.npz", "--predictions", "p.npy", status=2)
        self.write("kept.csv", "kept")
        self.scores[3, 1] = 0
        np.savez(self.path("bad.npz"), x=self.scores, label=self.labels + 2)
        self.refuse("--data", "bad.npz", "--predictions", "kept.csv", words="the label is class")
        self.assertEqual(self.path("kept.csv").read_text(), "kept")

    def test_objects(self) -> None:
        made = model(
            [helper.make_node("Identity", ["b"], ["boxes"]), helper.make_node("Identity", ["s"], ["scores"])],
            [tensor("b", [1, "m", 4]), tensor("s", [1, "m", 2])],
            [tensor("boxes", [1, "m", 4]), tensor("scores", [1, "m", 2])],
        )
        self.save(made)
        boxes = np.float32([[[0, 0, 0.5, 0.5], [0.02, 0, 0.5, 0.5], [0.6, 0.6, 0.2, 0.2]]])
        scores = np.float32([[[0.1, 0.9], [0.2, 0.8], [0.9, 0.3]]])
        np.savez(
            self.path("d.npz"),
            b=boxes,
            s=scores,
            label=np.float32([[0, 0, 0, 0.5, 0.5], [0, 0.6, 0.6, 0.2, 0.2], [-1, 0, 0, 0, 0]]),
        )
        options = [
            "--data",
            "d.npz",
            "--boxes",
            "boxes",
            "--scores",
            "scores",
            "--box-format",
            "xywh",
            "--background",
            0,
        ]
        self.refuse("--data", "d.npz", "--metric", "map50", words="--boxes is missing")
        found = self.figures(*options, "--metric", "map50")
        self.assertEqual(self.figures(*options)["map50"], found["map50"])
        # Right, wrong, right.
        self.assertAlmostEqual(found["map50"], (51 + 50 * 2 / 3) / 101)
        self.assertAlmostEqual(self.figures(*options, "--metric", "map50", "--nms", 0.5)["map50"], 1)
        self.refuse(*options, "--box-units", "pixel", "--metric", "map50", words="no known height and width")
        self.write("coco.json", json.dumps({"images": [], "categories": []}))
        self.refuse(*options, "--labels", "coco.json", words="'annotations' is missing")

    def test_what_is_refused(self) -> None:
        np.savez(self.path("a.npz"), x=self.scores, label=self.labels)
        self.refuse(words="--data is missing", status=2)
        self.refuse("--data", "no", words="no file or folder 'no'")
        self.path("empty").mkdir()
        self.refuse("--data", "empty", words="no samples in empty")
        self.refuse("--data", self.write("x.bin", "x"), words="ending of 'x.bin' is not known")
        self.refuse("--data", self.write("e.csv", ""), words="the table is empty")
        self.refuse("--data", self.write("e.csv", "x,label\n"), words="no samples")
        self.refuse(
            "--data",
            self.write("e.csv", "a,label\n1,2\n"),
            words="no column is called like an input; there are a, label",
        )
        self.refuse("--data", self.write("e.csv", "x,label\n1 2,0\n"), words=r"sample 'e.csv\[0\]': input 'x'")
        self.refuse("--data", self.write("e.csv", "x,label\n1 2 3\n"), words="row 1 has 1 cells; the header has 2")
        self.refuse("--data", self.write("e.csv", 'x,label\n"1 2 3,0\n'), words="a quote that nothing ends")
        self.refuse(
            "--data",
            self.write("e.csv", "x,label\n1 2 3,cat\n"),
            "--metric",
            "top1",
            words="label 'cat' is no number and no class",
        )
        self.array("w.npy", np.zeros((4, 5), np.float32))
        self.refuse(
            "--data", "w.npy", words=r"sample 'w.npy': input 'x': expected float32\[n, 3\], found float32\[4, 5\]"
        )
        self.array("w.npy", np.zeros((4, 3)))
        self.refuse(
            "--data",
            "w.npy",
            "--labels",
            self.array("l.npy", np.zeros(4, np.int64)),
            words=r"sample 'w.npy\[0\]': input 'x': expected float32\[n, 3\], found float64\[1, 3\]",
        )
        self.refuse("--data", "a.npz", "--labels", self.array("l.npy", np.zeros(4, np.int64)), words="for 20 samples")
        self.array("w.npy", self.scores)
        self.refuse("--data", "w.npy", words="the samples have no labels")
        np.savez(self.path("n.npz"), x=self.scores, label=self.labels[:5])
        self.refuse("--data", "n.npz", words="'label' have the shape .5. for 20 samples")
        np.savez(self.path("n.npz"), z=self.scores, u=self.labels[:5])
        self.refuse("--data", "n.npz", words="no array is called like an input")
        for options, words in (
            (["--metric", "top2"], "no figure 'top2'; did you mean"),
            (["--metric", "top1", "--metric", "miou"], "expected figures of one kind"),
            (["--batch", 0], "--batch is 0"),
            (["--batch", 2, "--feed", "y=x"], "exclude each other"),
        ):
            self.refuse("--data", "a.npz", *options, words=words, status=2)
        self.refuse("--data", "a.npz", "--scores", "z", words="no output 'z'")
        content = bytearray(self.path("a.npz").read_bytes())
        content[200] ^= 1
        self.path("b.npz").write_bytes(content)
        self.refuse("--data", "b.npz", words="checksum is wrong")
        self.path("b.npz").write_bytes(content[:300])
        self.refuse("--data", "b.npz", words="b.npz: ")

    def test_no_number_is_no_crash(self) -> None:
        self.scores[4] = np.nan
        np.savez(self.path("a.npz"), x=self.scores, label=self.labels)
        report = self.json("accuracy", "model.onnx", "--data", "a.npz", "--per-class")
        figures = {figure["name"]: figure for figure in report["result"]["metrics"]}
        self.assertIsNone(figures["auc"]["value"])
        self.assertEqual(figures["auc"]["reason"], "a score is no number")

    def peak(self, *arguments: object) -> int:
        """The largest resident memory of a run, in KB."""
        child = subprocess.Popen(
            [program.APUS, "accuracy", *map(str, arguments)],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(child.returncode, 0)
        return usage.ru_maxrss

    def test_memory_does_not_grow_with_samples(self) -> None:
        self.save(identity(shape=["n", 1 << 16]))
        peaks = []
        for count in (40, 400):
            with self.path("big.npy").open("wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, 1 << 16)}
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + count * (1 << 18))
            self.array("l.npy", np.zeros(count, np.int64))
            peaks.append(self.peak("model.onnx", "--data", "big.npy", "--labels", "l.npy"))
        self.assertLess(peaks[1], peaks[0] * 1.05)
