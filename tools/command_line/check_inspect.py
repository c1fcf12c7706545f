"""What is in containers: `apus inspect` on archives, HDF5 files, files of PyTorch, pickles and FlatBuffers."""

from __future__ import annotations

import collections
import gzip
import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np

from .program import Case

SAMPLES = Path(__file__).resolve().parent.parent.parent / "Tests/ApusContainersTests/Samples"


class Inspect(Case):
    def sample(self, name: str) -> str:
        shutil.copy(SAMPLES / name, self.path(name))
        return name

    def described(self, name: str) -> dict[str, tuple[str, list[int]]]:
        """What the library of the format reads in a sample: types and shapes by name."""
        rows = [line.split("\t") for line in (SAMPLES / f"{name}.txt").read_text().splitlines()]
        return {row[0]: (row[1], [int(size) for size in row[2].split(",") if size]) for row in rows}

    def test_groups_datasets_and_attributes(self) -> None:
        for name in ("keras.h5", "keras.weights.h5", "chunks.h5", "types.h5", "many.h5"):
            shown = self.json("inspect", "--check", self.sample(name))
            self.assertEqual(shown["format"], "hdf5")
            found = {}

            def walk(entries: list[dict], path: str) -> None:
                for entry in entries:
                    if entry["kind"] == "attribute":
                        place = f"{path}@{entry['name']}"
                    else:
                        place = f"{path}{entry['name']}"
                        walk(entry.get("entries", []), place + ("/" if entry["kind"] == "group" else ""))
                    if "type" in entry and "shape" in entry:
                        found[place] = (entry["type"], entry["shape"])

            walk(shown["entries"], "/")
            expected = self.described(name)
            self.assertEqual({key: found.get(key) for key in expected}, expected)
        text = self.apus("inspect", "keras.h5").stdout.decode()
        self.assertIn("@keras_version", text)
        self.assertIn("/", text)

    def test_what_is_not_read_is_noted(self) -> None:
        shown = self.json("inspect", self.sample("refused.hdf5"))
        notes = {entry["name"]: entry.get("note", "") for entry in shown["entries"]}
        self.assertIn("compound", notes["compound"])
        self.assertIn("another file", notes["outside"])
        self.assertIn("fractal heap", notes["dense"])

    def test_tensors_of_torch(self) -> None:
        for name in ("state.pt", "state.pth", "views.pt", "views.pth", "module.pt", "module.pth"):
            shown = self.json("inspect", "--check", self.sample(name))
            self.assertEqual(shown["format"], "torch")
            found = {e["name"]: (e["type"], e["shape"]) for e in shown["entries"] if e["kind"] == "tensor"}
            self.assertEqual(found, self.described(name))
            self.assertTrue(any("_rebuild_tensor_v2" in symbol for symbol in shown["globals"]))
            for entry in shown["entries"]:
                if entry["kind"] == "tensor":
                    self.assertEqual(entry["storage"]["device"], "cpu")
        turned = next(e for e in self.json("inspect", "views.pt")["entries"] if e["name"] == "turned")
        self.assertEqual(turned["strides"], [1, 6])
        self.assertIn("torch.nn.modules.conv.Conv2d", self.json("inspect", "module.pt")["calls"])

    def test_nothing_runs(self) -> None:
        class Hostile:
            def __reduce__(self):
                return os.system, (f"touch {mark}",)

        mark = self.path("was-here")
        self.write("a.pkl", pickle.dumps({"x": Hostile(), "n": 3, "o": collections.OrderedDict(a=1)}))
        shown = self.json("inspect", "a.pkl")
        self.assertEqual((shown["format"], shown["calls"]), ("pickle", ["posix.system"]))
        values = {entry["name"]: entry.get("value") for entry in shown["entries"]}
        self.assertEqual((values["x"], values["n"]), ("posix.system", "3"))
        self.assertIn(b"calls, not run: posix.system", self.apus("inspect", "a.pkl").stdout)
        self.assertFalse(mark.exists())

    def test_an_archive_with_a_broken_pickle_is_shown_as_its_files(self) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("m/data.pkl", b"\x80\x02h\x07.")
            archive.writestr("m/data/0", b"1234")
        self.write("a.pt", packed.getvalue())
        shown = self.json("inspect", "a.pt")
        self.assertEqual([entry["name"] for entry in shown["entries"]], ["m/data.pkl", "m/data/0"])
        self.assertIn("memo", shown["metadata"]["refused"])

    def test_containers_in_containers(self) -> None:
        with zipfile.ZipFile(self.path("a.keras"), "w") as archive:
            archive.writestr("config.json", "{}")
            archive.write(SAMPLES / "keras.weights.h5", "model.weights.h5", zipfile.ZIP_DEFLATED)
        shown = self.json("inspect", "a.keras")
        weights = next(entry for entry in shown["entries"] if entry["name"] == "model.weights.h5")
        self.assertEqual(weights["kind"], "hdf5")
        self.assertTrue(weights["entries"])
        self.write("x.gz", gzip.compress(self.path("a.keras").read_bytes()))
        self.assertEqual(self.json("inspect", "x.gz")["entries"][0]["kind"], "zip")

    def test_flatbuffers(self) -> None:
        content = bytearray((SAMPLES / "flat.bin").read_bytes())
        content[4:8] = b"ORTM"
        self.write("a.ort", bytes(content))
        # The first field of the sample is no text.
        done = self.apus("inspect", "a.ort", status=1)
        self.assertIn(b"a.ort", done.stderr)
        # A root table without fields: everything has its default.
        self.write("a.tflite", b"\x0c\0\0\0TFL3\x04\0\x04\0\x04\0\0\0")
        self.assertEqual(self.json("inspect", "a.tflite")["metadata"]["kind"], "TensorFlow Lite")

    def test_pipes_and_faults(self) -> None:
        content = (SAMPLES / "chunks.h5").read_bytes()
        done = self.apus("inspect", "-", input=content)
        self.assertIn(b"hdf5", done.stdout)
        self.assertEqual(self.json("inspect", self.write("user-block.h5", content))["format"], "hdf5")
        for length in (9, 60, 700):
            self.write("cut.h5", content[:length])
            done = self.apus("inspect", "cut.h5", status=1)
            self.assertIn(b"cut.h5", done.stderr)
        self.write("a.txt", "nothing of the kind")
        self.assertIn(b"no container", self.apus("inspect", "a.txt", status=1).stderr)
        self.write("empty", b"")
        self.apus("inspect", "empty", status=1)
        np.save(self.path("a.npy"), np.zeros((2, 3), np.float32))
        self.assertEqual(self.json("inspect", "a.npy")["entries"][0]["shape"], [2, 3])
