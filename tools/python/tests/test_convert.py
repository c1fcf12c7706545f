"""convert and load: every format that is read, written as ONNX and run; misuse is an error that leaves no file."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx

sys.path[:0] = [str(Path(__file__).resolve().parent)]
from models_for_tests import MODELS, ROOT

import apus

FIXTURES = ROOT / "Tests" / "ApusFormatsTests" / "Fixtures"


class Conversion(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.image = np.random.default_rng(1).random((2, 1, 8, 8), np.float32)
        (self.expected,) = apus.load(MODELS / "digits.onnx").run(None, {"input": self.image})[:1]

    def test_options_are_those_of_the_command(self) -> None:
        target = self.folder / "made.onnx"
        report = apus.convert(
            MODELS / "digits.onnx",
            target,
            opset=19,
            dim={"batch": 2},
            rename={"input": "image"},
            nhwc_inputs=True,
            uint8_inputs=True,
            mean=0.0,
            external_data="made.bin",
            metadata={"note": "x"},
            drop_metadata="labels",
        )
        self.assertEqual((report["from"], report["opset"]), ("onnx", 19))
        self.assertEqual(report["side_file"], str(target.parent / "made.bin"))
        whole = self.folder / "whole.onnx"
        small = apus.convert(MODELS / "digits.onnx", whole, external_data="whole.bin", external_threshold=1 << 30)
        self.assertIn("all stay in the model", small["notes"][0])
        pixels = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 1), np.uint8)
        session = apus.load(target)
        (found,) = session.run(None, {"image": pixels})[:1]
        (expected,) = apus.load(MODELS / "digits.onnx").run(
            None, {"input": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255}
        )[:1]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        self.assertEqual(session.get_modelmeta().custom_metadata_map, {"held_out_accuracy": "0.9822", "note": "x"})

    def test_formats_of_frameworks_load_and_become_onnx(self) -> None:
        for path in (FIXTURES / "TFLite" / "cnn_float.tflite", sorted((FIXTURES / "Torch").glob("*.pt2"))[0]):
            session = apus.load(path)
            report = apus.convert(path, self.folder / "made.onnx")
            self.assertGreater(report["nodes"], 0)
            made = apus.load(self.folder / "made.onnx")
            self.assertEqual([x.name for x in session.get_inputs()], [x.name for x in made.get_inputs()])

    def test_texts(self) -> None:
        apus.convert(MODELS / "digits.onnx", self.folder / "a.json")
        (found,) = apus.load(self.folder / "a.json").run(None, {"input": self.image})[:1]
        np.testing.assert_array_equal(found, self.expected)
        apus.convert(self.folder / "a.json", self.folder / "b", format="onnx", source_format="json")
        self.assertEqual(onnx.load(self.folder / "b"), onnx.load(MODELS / "digits.onnx"))

    def test_misuse(self) -> None:
        target = self.folder / "a.onnx"
        for options, error in (
            ({"opset": 3}, apus.InvalidArgument),
            ({"rename": {"nobody": "x"}}, apus.Error),
            ({"float16": True, "bfloat16": True}, apus.InvalidArgument),
            ({"layout": {"input": "abc"}}, apus.InvalidArgument),
            ({"shape": {"input": [-1, 1, 8, 8]}}, apus.InvalidArgument),
            ({"external_data": "x", "embed_data": True}, apus.InvalidArgument),
            ({"source_format": "tflite"}, apus.Error),
        ):
            with self.subTest(options=options), self.assertRaises(error):
                apus.convert(MODELS / "digits.onnx", target, **options)
        with self.assertRaises(apus.NoSuchFile):
            apus.convert(MODELS / "digits.onnx", self.folder / "none" / "a.onnx")
        with self.assertRaisesRegex(apus.InvalidArgument, "a name that ends in one of .onnx"):
            apus.convert(MODELS / "digits.onnx", self.folder / "a.foo")
        self.assertFalse(target.exists())


if __name__ == "__main__":
    unittest.main()
