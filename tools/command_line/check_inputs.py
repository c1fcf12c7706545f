"""Inputs as people have them: labels and text from any editor, arrays, pictures, sound."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from onnx import TensorProto, helper

from .program import Case, constant, identity, model, tensor

T = TensorProto


class Labels(Case):
    def top(self, labels: bytes | None, scores: list[float], **metadata: str) -> list[str | None]:
        made = model(
            [helper.make_node("Identity", ["x"], ["y"])],
            [tensor("x", [len(scores)])],
            [tensor("y", [len(scores)])],
            metadata=metadata,
        )
        self.save(made)
        self.array("x.npy", np.array(scores, np.float32))
        more = [] if labels is None else ["--labels", self.write("labels.txt", labels)]
        report = self.json("run", "model.onnx", "-i", "x.npy", "--top", len(scores), *more)
        return [element.get("label") for element in report["outputs"][0]["top"][0]]

    def test_line_k_is_class_k(self) -> None:
        for text in (b"a\n\nc\n", b"a\r\n\r\nc\r\n", b"\xef\xbb\xbfa\n\nc", b"\xef\xbb\xbfa\r\n\r\nc"):
            self.assertEqual(self.top(text, [1, 2, 3]), ["c", "", "a"])
        self.assertEqual(self.top(b"a\nb\n", [1, 2, 3]), [None, "b", "a"])

    def test_metadata(self) -> None:
        for text in ('["a", "", "c"]', "a\n\nc", "a\r\n\r\nc", "a,,c", "{0: 'a', 1: '', 2: 'c'}"):
            self.assertEqual(self.top(None, [1, 2, 3], names=text), ["c", "", "a"], text)

    def test_other_numbers_of_labels_are_told(self) -> None:
        self.save(identity(shape=[3]))
        done = self.apus("run", "model.onnx", "--random", "--top", 1, "--labels", self.write("l.txt", "a\nb\n"))
        self.assertIn("2 labels for 3 classes", done.stderr.decode())

    def test_what_is_no_text(self) -> None:
        self.save(identity(shape=[3]))
        for text in ("a\nb".encode("utf-16"), b"a\nb\xff\n"):
            error = self.apus(
                "run", "model.onnx", "--random", "--top", 1, "--labels", self.write("l.txt", text), status=1
            )
            self.assertIn("UTF-8", error.stderr.decode())

    def test_what_is_no_number_is_last(self) -> None:
        self.assertEqual(self.top(b"a\nb\nc\n", [1, float("nan"), 3]), ["c", "a", "b"])


class RandomInputs(Case):
    def test_random_inputs_have_the_extents_of_given_ones(self) -> None:
        self.save(
            model(
                [helper.make_node("Add", ["a", "b"], ["y"])],
                [tensor("a", ["n", 2]), tensor("b", ["n", 2])],
                [tensor("y", ["n", 2])],
            )
        )
        self.array("a.npy", np.zeros((3, 2), np.float32))
        report = self.json("run", "model.onnx", "-i", "a=a.npy", "--random")
        self.assertEqual(report["outputs"][0]["shape"], [3, 2])


class Text(Case):
    def value(self, made, name: str, content: bytes) -> object:
        self.save(made)
        return self.json("run", "model.onnx", "-i", self.write(name, content))["outputs"][0]["value"]

    def test_line_ends(self) -> None:
        for text in (b"1 2\n3", b"1 2\r\n3\r\n", b"\xef\xbb\xbf1,2\r\n3 # three\r\n"):
            self.assertEqual(self.value(identity(shape=["n"]), "x.txt", text), [1, 2, 3])
        strings = identity(T.STRING, ["n"])
        for text in (b"a\n\nb c\n", b"a\r\n\r\nb c\r\n", b"\xef\xbb\xbfa\n\nb c"):
            self.assertEqual(self.value(strings, "x.txt", text), ["a", "", "b c"])


def npy(descriptor: str, shape: str, data: bytes = b"") -> bytes:
    header = ("{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n" % (descriptor, shape)).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


class Arrays(Case):
    def test_what_no_file_pays_for(self) -> None:
        self.save(identity(T.STRING))
        for content in (
            npy("<U0", "(500000000,)"),
            npy("|S0", "(400000000,)"),
            npy("<U0", "(1000000000000,)"),
            npy("<U9", "(4611686018427387904,)"),
            npy("|S1", "(4,)", b"abc"),
            npy("<f4", "(" + "1," * 65 + ")", bytes(4)),
        ):
            self.apus("run", "model.onnx", "-i", self.write("x.npy", content), status=1)
        report = self.json("run", "model.onnx", "-i", self.write("x.npy", npy("<U0", "(3,)")))
        self.assertEqual(report["outputs"][0]["value"], ["", "", ""])

    def test_integers_are_bits_only_where_numpy_has_no_type(self) -> None:
        self.array("x.npy", np.array([0x3F80, 0x4000], np.uint16))
        self.save(identity(T.BFLOAT16, [2]))
        self.assertEqual(self.json("run", "model.onnx", "-i", "x.npy")["outputs"][0]["value"], [1.0, 2.0])
        self.save(identity(T.FLOAT16, [2]))
        self.apus("run", "model.onnx", "-i", "x.npy", status=1)


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Pictures(Case):
    def image(self, shape: list, *options: object) -> np.ndarray:
        self.save(identity(T.UINT8, shape))
        report = self.json("run", "model.onnx", "--image", "p.ppm", *options)
        return np.array(report["outputs"][0]["value"], np.uint8)

    def setUp(self) -> None:
        super().setUp()
        # 8 wide, 4 high; the columns are 0, 10, …, 70.
        columns = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 10, 4, 0)
        self.write("p.ppm", b"P6 8 4 255\n" + np.repeat(columns, 3, 2).tobytes())

    def test_an_initializer_is_no_input(self) -> None:
        self.save(
            model(
                [helper.make_node("Mul", ["x", "w"], ["y"])],
                [tensor("x", [1])],
                [tensor("y", [1])],
                [constant("w", np.float32([2]))],
            )
        )
        self.array("one.npy", np.ones(1, np.float32))
        done = self.apus("run", "model.onnx", "-i", "x=one.npy", "-i", "w=one.npy", status=1)
        self.assertRegex(done.stderr.decode(), r"no input 'w'")

    def test_fits(self) -> None:
        stretched = self.image([1, 3, 4, 4])
        np.testing.assert_array_equal(self.image([1, 3, 4, 4], "--image-fit", "stretch"), stretched)
        cropped = self.image([1, 3, 4, 4], "--image-fit", "crop")
        np.testing.assert_array_equal(cropped[0, 0], np.tile([20, 30, 40, 50], (4, 1)))
        padded = self.image([1, 8, 8, 3], "--image-fit", "pad", "--pad-value", 114)
        np.testing.assert_array_equal(padded[0, 2:6, :, 1], np.tile(np.arange(8) * 10, (4, 1)))
        self.assertTrue((padded[0, [0, 1, 6, 7]] == 114).all())
        self.assertEqual(self.image([1, 3, 2, 6], "--image-fit", "pad")[0, 0, :, 0].tolist(), [0, 0])
        self.apus("run", "model.onnx", "--image", "p.ppm", "--image-fit", "squeeze", status=2)

    def test_sizes_that_no_memory_holds(self) -> None:
        for shape in ([1, 3, 65536, 65536], [1, 3, 1 << 40, 4], [1, 65536, 4096, 3]):
            self.save(identity(shape=shape))
            self.apus("run", "model.onnx", "--image", "p.ppm", status=1)
        self.save(identity(shape=[1, 3, 4, 4]))
        for file in (
            self.write("large.png", png(60000, 60000, b"")),
            self.write("large.ppm", b"P6 65536 65536 255\n"),
            "no.png",
            self.write("x.txt", "hello"),
        ):
            self.apus("run", "model.onnx", "--image", file, status=1)


def wave(samples: np.ndarray, rate: int = 16000, code: int = 1, bits: int | None = None, channels: int = 1) -> bytes:
    data = samples.tobytes()
    bits = bits or samples.itemsize * 8
    body = struct.pack("<HHIIHH", code, channels, rate, rate * 2, samples.itemsize * channels, bits)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVE"
        + b"fmt "
        + struct.pack("<I", 16)
        + body
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )


class Sound(Case):
    def samples(self, content: bytes, *options: object, shape: list | None = None, **metadata: str) -> np.ndarray:
        made = identity(shape=shape or [1, "n"])
        helper.set_model_props(made, metadata)
        self.save(made)
        self.write("s.wav", content)
        self.apus("run", "model.onnx", "--audio", "s.wav", *options, "-o", "y.npy")
        return np.load(self.path("y.npy")).reshape(-1)

    def refuse(self, content: bytes, shape: list | None = None) -> None:
        self.save(identity(shape=shape or [1, "n"]))
        self.apus("run", "model.onnx", "--audio", self.write("s.wav", content), status=1)

    def test_formats(self) -> None:
        ramp = np.linspace(-1, 0.99, 200)
        for array, code in (
            (np.round(ramp * 32767).astype("<i2"), 1),
            (np.round(ramp * 2147483647).astype("<i4"), 1),
            (ramp.astype("<f4"), 3),
            (np.round(ramp * 127 + 128).astype("u1"), 1),
        ):
            np.testing.assert_allclose(
                self.samples(wave(array, code=code)), ramp, atol=0.02 if array.itemsize == 1 else 1e-4
            )
        stereo = np.stack([ramp, -ramp], 1).astype("<f4")
        np.testing.assert_allclose(self.samples(wave(stereo, code=3, channels=2)), 0, atol=1e-7)
        self.assertEqual(self.samples(wave(ramp.astype("<f4"), code=3), shape=[300])[200:].tolist(), [0] * 100)

    def test_headers_that_cannot_be(self) -> None:
        data = np.zeros(64, "<i2")
        for bits in (1, 7, 33, 39, 40, 65535):
            self.refuse(wave(data, bits=bits))
        for content in (
            wave(data, channels=0),
            wave(data, rate=0),
            wave(data, code=2),
            wave(data, code=3),
            wave(data)[:20],
            b"fLaC",
            b"OggS",
            b"",
            bytes(100),
        ):
            self.refuse(content)
        for shape in ([1 << 40], [1 << 62], [1 << 40, 1 << 40], [1, 1 << 33]):
            self.refuse(wave(data), shape=shape)

    def test_other_rates_are_refused_or_resampled(self) -> None:
        self.refuse(wave(np.zeros(64, "<i2"), rate=44100))
        self.assertEqual(self.samples(wave(np.zeros(441, "<i2"), rate=44100), "--sample-rate", 44100).size, 441)
        self.assertEqual(self.samples(wave(np.zeros(441, "<i2"), rate=44100), sample_rate="16000").size, 160)

    def test_resampling_is_faithful(self) -> None:
        for source, target in (
            (44100, 16000),
            (8000, 16000),
            (48000, 44100),
            (22050, 16000),
            (11025, 48000),
            (16000, 16001),
        ):
            with self.subTest(f"{source} to {target}"):
                low = min(source, target)
                time = np.arange(source) / source
                kept = np.sin(2 * np.pi * 0.2 * low * time) * 0.5 + np.cos(2 * np.pi * 0.4 * low * time) * 0.25
                found = self.samples(wave(kept.astype("<f4"), source, code=3), "--sample-rate", target)
                self.assertEqual(found.size, target)
                there = np.arange(target) / target
                expected = np.sin(2 * np.pi * 0.2 * low * there) * 0.5 + np.cos(2 * np.pi * 0.4 * low * there) * 0.25
                inner = slice(target // 10, -target // 10)
                np.testing.assert_allclose(found[inner], expected[inner], atol=2e-4)
                constant_ = self.samples(wave(np.full(source, 0.5, "<f4"), source, code=3), "--sample-rate", target)
                np.testing.assert_allclose(constant_[inner], 0.5, atol=1e-6)
                if target < source:
                    lost = np.sin(2 * np.pi * (0.51 * target) * time).astype("<f4")
                    found = self.samples(wave(lost, source, code=3), "--sample-rate", target)
                    self.assertLess(np.abs(found[inner]).max(), 1e-4)
