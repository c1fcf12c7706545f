"""Weights out of files and into models: `apus weights` on checkpoints, safetensors, .npz and ONNX; whole modules."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .program import Case

SAMPLES = Path(__file__).resolve().parent.parent.parent / "Tests/ApusContainersTests/Samples"
FIXTURES = Path(__file__).resolve().parent.parent.parent / "Tests/ApusFormatsTests/Fixtures/Torch"


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """What a file of safetensors holds, read by hand."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    types = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32, "F16": np.float16,
             "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16}
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in types:
            continue
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[start:end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


class Weights(Case):
    def model(self, weights: dict[str, np.ndarray], name: str = "model.onnx") -> str:
        """y = x · a + b with initializers of any names."""
        first, second = list(weights)
        nodes = [helper.make_node("MatMul", ["x", first], ["h"]), helper.make_node("Add", ["h", second], ["y"])]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(value, key) for key, value in weights.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), self.path(name))
        return name

    def values(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        return random.normal(size=(2, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)

    def test_checkpoints_in_both_forms_give_the_same_tensors(self) -> None:
        for stem in ("state", "views"):
            for name in (f"{stem}.pt", f"{stem}.pth"):
                shutil.copy(SAMPLES / name, self.path(name))
                self.apus("weights", name, "-o", name + ".safetensors")
                self.apus("weights", name, "-o", name + ".npz")
                stored = safetensors(Path(self.path(name + ".safetensors")))
                with np.load(self.path(name + ".npz")) as arrays:
                    for key, value in stored.items():
                        np.testing.assert_array_equal(arrays[key], value)
            one, other = (safetensors(Path(self.path(f"{stem}{end}.safetensors"))) for end in (".pt", ".pth"))
            self.assertTrue(one)
            self.assertEqual(set(one), set(other))

    def test_strides_of_zero_do_not_make_gigabytes(self) -> None:
        """Four bytes that are said to be 2^20 rows of 600 columns."""
        storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\1tQ"
        for rows, status in ((8, 0), (1 << 20, 1)):
            sizes = b"J" + struct.pack("<i", rows) + b"M" + struct.pack("<H", 600) + b"\x86K\0K\0\x86"
            built = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + sizes + b"\x89}tR"
            with zipfile.ZipFile(self.path("few.pth"), "w") as archive:
                archive.writestr("few/data.pkl", b"\x80\2}X\1\0\0\0x" + built + b"s.")
                archive.writestr("few/data/0", bytes(4))
            told = self.apus("weights", "few.pth", "-o", "few.npz", status=status)
            self.assertIn("of its storage" if status else "few.npz", (told.stdout + told.stderr).decode())

    def test_back_and_forth(self) -> None:
        a, b = self.values(1)
        model = self.model({"a": a, "b": b})
        self.apus("weights", model, "-o", "w.safetensors")
        found = safetensors(Path(self.path("w.safetensors")))
        np.testing.assert_array_equal(found["a"], a)
        self.apus("weights", "w.safetensors", "-o", "w.npz")
        with np.load(self.path("w.npz")) as arrays:
            np.testing.assert_array_equal(arrays["b"], b)

    def test_transplant_by_name_shape_and_prefix(self) -> None:
        old, new = self.values(1), self.values(2)
        model = self.model({"net.a": old[0], "net.b": old[1]})
        np.savez(self.path("new.npz"), **{"module.net.a": new[0], "module.net.b": new[1], "extra": new[1]})
        report = self.json("weights", "new.npz", "--into", model, "-o", "out.onnx")
        self.assertEqual({pair["target"]: pair["source"] for pair in report["matched"]},
                         {"net.a": "module.net.a", "net.b": "module.net.b"})
        self.assertEqual(report["unused"], ["extra"])
        stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(self.path("out.onnx")).graph.initializer}
        np.testing.assert_array_equal(stored["net.a"], new[0])
        np.testing.assert_array_equal(stored["net.b"], new[1])

    def test_what_does_not_match_is_told(self) -> None:
        old, new = self.values(1), self.values(2)
        model = self.model({"a": old[0], "b": old[1]})
        np.savez(self.path("new.npz"), a=new[0].T.copy(), b=new[1])
        report = self.json("weights", "new.npz", "--into", model, "-o", "out.onnx")
        self.assertEqual([rest["name"] for rest in report["unmatched"]], ["a"])
        self.assertIn("[3, 2]", report["unmatched"][0]["reason"])
        refused = self.apus("weights", "new.npz", "--into", model, "--all", "-o", "all.onnx", status=1)
        self.assertIn("'a'", refused.stderr.decode())
        self.assertFalse(Path(self.path("all.onnx")).exists())
        np.savez(self.path("other.npz"), q=new[0])
        refused = self.apus("weights", "other.npz", "--into", model, "-o", "none.onnx", status=1)
        self.assertIn("same name and shape", refused.stderr.decode())
        self.assertFalse(Path(self.path("none.onnx")).exists())

    def test_a_checkpoint_has_no_graph(self) -> None:
        shutil.copy(SAMPLES / "state.pt", self.path("state.pt"))
        message = self.apus("run", "state.pt", "--random", status=1).stderr.decode()
        self.assertIn("no graph", message)
        self.assertIn("apus weights", message)

    def test_a_sequential_is_rebuilt(self) -> None:
        for name in ("sequential.pt", "sequential_legacy.pth"):
            if not (FIXTURES / name).exists():
                self.fail(f"{name} is missing")
            with np.load(FIXTURES / "sequential.npz") as arrays:
                np.save(self.path("x.npy"), arrays["in/input"])
                expected = arrays["out/output"]
            shutil.copy(FIXTURES / name, self.path(name))
            self.apus("run", name, "--input", "input=x.npy", "-o", "out.npz")
            with np.load(self.path("out.npz")) as found:
                np.testing.assert_allclose(found["output"], expected, rtol=1e-5, atol=1e-6)

    def test_classes_of_the_author_are_named(self) -> None:
        shutil.copy(FIXTURES / "own_module.pt", self.path("own.pt"))
        message = self.apus("info", "own.pt", status=1).stderr.decode()
        self.assertIn("Own", message)
        self.assertIn("never decoded or run", message)

    def test_attributes_that_change_results_are_refused_by_name(self) -> None:
        for name in ("refused_attributes.pt", "refused_hook.pt"):
            shutil.copy(FIXTURES / name, self.path(name))
        message = self.apus("info", "refused_attributes.pt", status=1).stderr.decode()
        self.assertIn("0: max_norm", message)
        self.assertIn("1: return_indices=True", message)
        self.assertIn("_forward_pre_hooks", self.apus("info", "refused_hook.pt", status=1).stderr.decode())

    def test_variants_of_a_sequential(self) -> None:
        names = [path.stem for path in FIXTURES.glob("sequential_*.npz")]
        self.assertIn("sequential_padding", names)
        for name in names:
            with np.load(FIXTURES / f"{name}.npz") as arrays:
                np.save(self.path("x.npy"), arrays["in/input"])
                expected = arrays["out/output"]
            shutil.copy(FIXTURES / f"{name}.pt", self.path("m.pt"))
            self.apus("run", "m.pt", "--input", "input=x.npy", "-o", "out.npz")
            with np.load(self.path("out.npz")) as found:
                np.testing.assert_allclose(found["output"], expected, rtol=1e-5, atol=1e-6, err_msg=name)

    def test_all_is_for_the_weights_of_the_file_too(self) -> None:
        old, new = self.values(1), self.values(2)
        model = self.model({"a": old[0], "b": old[1]})
        np.savez(self.path("new.npz"), a=new[0], b=new[1], rest=new[1], num_batches_tracked=np.int64(3))
        report = self.json("weights", "new.npz", "--into", model, "-o", "out.onnx")
        self.assertEqual(report["left_out"], ["rest"])
        self.assertIn("warning: 1", self.apus("weights", "new.npz", "--into", model, "-o", "o.onnx").stdout.decode())
        refused = self.apus("weights", "new.npz", "--into", model, "--all", "-o", "all.onnx", status=1)
        self.assertIn("tensor 'rest'", refused.stderr.decode())
        self.assertFalse(Path(self.path("all.onnx")).exists())
        np.savez(self.path("whole.npz"), a=new[0], b=new[1], num_batches_tracked=np.int64(3))
        self.apus("weights", "whole.npz", "--into", model, "--all", "-o", "all.onnx")

    def test_keys_of_dictionaries_are_a_prefix(self) -> None:
        old, new = self.values(1), self.values(2)
        model = self.model({"net.a": old[0], "net.b": old[1]})
        tensors = {"model/net.a": new[0], "model/net.b": new[1], "optimizer/state/0": new[1]}
        np.savez(self.path("new.npz"), **tensors)
        report = self.json("weights", "new.npz", "--into", model, "--all", "-o", "out.onnx")
        self.assertEqual({pair["target"]: pair["source"] for pair in report["matched"]},
                         {"net.a": "model/net.a", "net.b": "model/net.b"})
        self.assertEqual((report["unused"], report["left_out"]), (["optimizer/state/0"], []))

    def test_models_of_other_formats_are_told_what_can_be_read(self) -> None:
        a, b = self.values(1)
        self.apus("convert", self.model({"a": a, "b": b}), "-o", "m.tflite")
        message = self.apus("weights", "m.tflite", "-o", "w.npz", status=1).stderr.decode()
        self.assertIn("TensorFlow Lite", message)
        self.assertIn("apus convert", message)
