"""The package: models, values of every kind, errors, threads, the backend."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import weakref
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]
from check_test_models import TOLERANCE, input_files, number  # noqa: E402
from model_values import compare, flatten, read_value  # noqa: E402
from models_for_tests import MODELS, ROOT, long_model, model_of, tensor  # noqa: E402

import apus  # noqa: E402
import apus.backend  # noqa: E402


def identity(kind: onnx.TypeProto) -> apus.InferenceSession:
    return apus.InferenceSession(model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, ["y"]))


class Models(unittest.TestCase):
    def test_description(self) -> None:
        session = apus.InferenceSession(MODELS / "digits.onnx", threads=2)
        self.assertEqual(session.get_inputs(), [apus.NodeArg("input", "tensor(float)", ["batch", 1, 8, 8])])
        self.assertEqual(session.get_outputs(), [apus.NodeArg("probabilities", "tensor(float)", ["batch", 10])])
        self.assertEqual(session.threads, 2)
        meta = session.get_modelmeta()
        self.assertEqual(meta.custom_metadata_map["labels"], "0,1,2,3,4,5,6,7,8,9")
        self.assertEqual(meta.producer_name, onnx.load(MODELS / "digits.onnx").producer_name)
        self.assertEqual(list(meta.opsets), [""])

    def test_options(self) -> None:
        path = str(MODELS / "digits.onnx")
        session = apus.InferenceSession(
            path, dimensions={"batch": 3}, optimize=False, providers=["CPUExecutionProvider"]
        )
        self.assertEqual(session.get_inputs()[0].shape, [3, 1, 8, 8])
        session = apus.InferenceSession(path, shapes={"input": [2, 1, 8, 8]})
        self.assertEqual(session.get_inputs()[0].shape, [2, 1, 8, 8])
        with self.assertRaisesRegex(apus.InputError, "threads is -1"):
            apus.InferenceSession(path, threads=-1)
        with self.assertRaisesRegex(apus.Error, "no such"):
            apus.InferenceSession(path, extra_outputs=["no such"])
        name = onnx.load(path).graph.node[0].output[0]
        self.assertEqual(apus.InferenceSession(path, extra_outputs=[name]).get_outputs()[1].name, name)

    def test_sources(self) -> None:
        path = MODELS / "digits.onnx"
        image = np.random.default_rng(1).random((2, 1, 8, 8), np.float32)
        expected = apus.InferenceSession(path).run(None, {"input": image})[0]
        for source in (str(path), path.read_bytes(), bytearray(path.read_bytes()), onnx.load(path)):
            np.testing.assert_array_equal(apus.InferenceSession(source).run(None, {"input": image})[0], expected)
        content = (MODELS / "external_weights.onnx").read_bytes()
        with self.assertRaises(apus.ModelError):
            apus.InferenceSession(content)
        self.assertTrue(apus.InferenceSession(content, external_data_folder=MODELS).get_inputs())

    def test_test_models(self) -> None:
        """Every test model on its stored data."""
        for path in sorted(MODELS.glob("*.onnx")):
            graph = onnx.load(path, load_external_data=False).graph
            defaults = {item.name for item in graph.initializer}
            infos = {info.name: info for info in graph.input}
            for folder in sorted((MODELS / "data" / path.stem).glob("test_data_set_*"), key=number):
                with self.subTest(model=path.stem, data=folder.name):
                    feeds = {name: read_value(file, infos[name]) for name, file in input_files(graph, folder)}
                    session = apus.InferenceSession(path, overridable_initializers=defaults & feeds.keys())
                    results = session.run(None, feeds)
                    for index, (info, found) in enumerate(zip(graph.output, results, strict=True)):
                        expected = flatten(info.name, read_value(folder / f"output_{index}.pb", info))
                        limits = (5e-2, 1e-2) if "float16" in path.stem else tuple(TOLERANCE.values())
                        keyed = flatten(info.name, found)
                        for key in keyed.keys() & expected.keys():
                            if key.endswith(".values"):  # the numbers of a dictionary are Python's
                                keyed[key] = keyed[key].astype(expected[key].dtype)
                        difference = compare(keyed, expected, *limits)
                        self.assertTrue(difference.within, difference.reason)


class Compiled(unittest.TestCase):
    def test_compiled_models(self) -> None:
        image = np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 1, 8, 8)
        original = apus.InferenceSession(MODELS / "digits.onnx", threads=1)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "digits of another name"
            apus.compile(MODELS / "digits.onnx", target, threads=1)
            for source in (target, str(target), target.read_bytes()):
                session = apus.InferenceSession(source, threads=1)
                self.assertEqual(session.get_inputs(), original.get_inputs())
                self.assertEqual(session.get_modelmeta(), original.get_modelmeta())
                np.testing.assert_array_equal(session.run(None, {"input": image}), original.run(None, {"input": image}))
            self.assertEqual(apus.InferenceSession(target, dimensions={"batch": 2}).get_inputs()[0].shape, [2, 1, 8, 8])
            with self.assertRaisesRegex(apus.Error, "intermediate values"):
                apus.InferenceSession(target, extra_outputs=["probabilities"])
            with self.assertRaisesRegex(apus.Error, "compiled already"):
                apus.compile(target, Path(folder) / "again")
            apus.compile(str(MODELS / "digits.onnx"), str(target), dimensions={"batch": 3})
            self.assertEqual(apus.InferenceSession(target).get_inputs()[0].shape, [3, 1, 8, 8])
            with self.assertRaises(apus.NoSuchFile):
                apus.compile(Path(folder) / "none.onnx", target)

    def test_a_file_that_shrinks(self) -> None:
        weights = np.ones((300, 300), np.float32)
        proto = model_of(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": tensor(TensorProto.FLOAT, [1, 300])}, ["y"]
        )
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "m.onnx", Path(folder) / "m.apus"
            source.write_bytes(proto.SerializeToString())
            apus.compile(source, target)
            session = apus.InferenceSession(target)
            os.truncate(target, 1 << 14)
            with self.assertRaisesRegex(apus.Error, "became shorter"):
                session.run(None, {"x": np.ones((1, 300), np.float32)})


class Tensors(unittest.TestCase):
    def test_every_type(self) -> None:
        for element in apus._types.ELEMENT_TYPES:
            if element.name.startswith("float6"):
                continue  # Identity does not know them; see test_packing
            for shape in ((3, 5), (), (0, 4), (7,)):
                with self.subTest(type=element.name, shape=shape):
                    if element.name == "string":
                        value = np.array(["ä" * (i % 3) for i in range(int(np.prod(shape)))], object).reshape(shape)
                    else:
                        kind = apus._types.dtype(element)
                        value = np.asarray(np.random.default_rng(0).random(shape) * 4).astype(kind)
                    session = identity(tensor(element.number, [None] * len(shape)))
                    self.assertEqual(session.get_inputs()[0].type, f"tensor({element.name})")
                    (found,) = session.run(None, {"x": value})
                    self.assertEqual((found.dtype, found.shape), (value.dtype, value.shape))
                    self.assertEqual(found.tolist(), value.tolist())
                    self.assertFalse(np.shares_memory(found, value))
                    self.assertTrue(found.flags.writeable)

    def test_packing(self) -> None:
        for bits in (2, 4, 6):
            for count in (0, 1, 3, 4, 5, 63):
                elements = np.random.default_rng(0).integers(0, 1 << bits, count, dtype=np.uint8)
                packed = apus._types.pack(elements, bits)
                self.assertEqual(packed.size, -(-count * bits // 8))
                np.testing.assert_array_equal(apus._types.unpack(packed, bits, count), elements)
                # Bits above an element's, as a sign would set them, do not count.
                np.testing.assert_array_equal(apus._types.pack(elements | np.uint8(256 - (1 << bits)), bits), packed)
        packed = apus._types.pack(np.array([1, 2, 3], np.uint8), 6)
        self.assertEqual(int.from_bytes(packed.tobytes(), "little"), 1 | 2 << 6 | 3 << 12)

    def test_layouts(self) -> None:
        session = identity(tensor(TensorProto.FLOAT, [None, None]))
        base = np.arange(24, dtype=np.float32).reshape(4, 6)
        raw = np.zeros(97, np.uint8)
        unaligned = raw[1:].view(np.float32).reshape(4, 6)
        for value in (base.T, base[::2, ::-1], np.asfortranarray(base), base.astype(">f4"), unaligned, base[:0]):
            np.testing.assert_array_equal(session.run(None, {"x": value})[0], value)
        self.assertEqual(session.run(None, {"x": [[1, 2], [3, 4]]})[0].dtype, np.float32)

    def test_results_are_independent(self) -> None:
        nodes = [helper.make_node("Abs", ["x"], ["y"]), helper.make_node("Identity", ["y"], ["z"])]
        constant = onnx.numpy_helper.from_array(np.ones(3, np.float32), "c")
        nodes.append(helper.make_node("Identity", ["c"], ["w"]))
        model = model_of(nodes, {"x": tensor(TensorProto.FLOAT, [3])}, ["y", "z", "w"], initializer=[constant])
        session = apus.InferenceSession(model)
        value = np.array([-1, 2, -3], np.float32)
        for _ in range(2):
            y, z, w = session.run(None, {"x": value})
            y[:], w[:] = 7, 7
            np.testing.assert_array_equal(z, [1, 2, 3])
        np.testing.assert_array_equal(session.run(["w"], {"x": value})[0], [1, 1, 1])
        np.testing.assert_array_equal(value, [-1, 2, -3])

    def test_results_outlive_everything(self) -> None:
        session = apus.InferenceSession(MODELS / "digits.onnx")
        (found,) = session.run(None, {"input": np.zeros((1, 1, 8, 8), np.float32)})
        part = found[:, 2:4]
        expected = part.copy()
        del session, found
        gc.collect()
        np.testing.assert_array_equal(part, expected)

    def test_inputs_are_let_go(self) -> None:
        class Array(np.ndarray):
            """One that can be watched."""

        value = np.zeros((2, 2), np.float32).view(Array)
        watch = weakref.ref(value)
        found = identity(tensor(TensorProto.FLOAT, [2, 2])).run(None, {"x": value})
        del value
        gc.collect()
        self.assertIsNone(watch())
        self.assertEqual(found[0].shape, (2, 2))

    def test_nothing_is_kept(self) -> None:
        """Neither arrays nor memory, by runs that succeed and runs that fail."""
        session = identity(tensor(TensorProto.FLOAT, [None, 3]))
        value, wrong = np.zeros((40, 3), np.float32), np.zeros((40, 4), np.float32)
        counts = [sys.getrefcount(item) for item in (value, wrong, session)]

        def use(times: int) -> None:
            for _ in range(times):
                session.run(None, {"x": value})
                session.run(["y", "y"], {"x": value})
                for feeds in ({"x": wrong}, {"z": value}, {"x": value[:, ::-1]}):
                    with contextlib.suppress(apus.InputError):
                        session.run(None, feeds)

        use(300)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        use(3000)
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 1000)  # kilobytes
        self.assertEqual([sys.getrefcount(item) for item in (value, wrong, session)], counts)

    def test_inputs_may_be_filled_anew(self) -> None:
        session = identity(tensor(TensorProto.FLOAT, [None]))
        value = np.zeros(5, np.float32)
        found = []
        for filling in range(3):
            value[:] = filling
            found.append(session.run(None, {"x": value})[0])
        value[:] = 9
        self.assertEqual([array.tolist() for array in found], [[0] * 5, [1] * 5, [2] * 5])

    def test_shapes_may_be_filled_anew(self) -> None:
        """An input that decides on the plan is read in every run."""
        kinds = {"x": tensor(TensorProto.FLOAT, [None]), "shape": tensor(TensorProto.INT64, [2])}
        session = apus.InferenceSession(model_of([helper.make_node("Reshape", ["x", "shape"], ["y"])], kinds, ["y"]))
        value, shape = np.arange(6, dtype=np.float32), np.zeros(2, np.int64)
        for wanted in ([2, 3], [3, 2], [6, 1], [2, 3]):
            shape[:] = wanted
            np.testing.assert_array_equal(session.run(None, {"x": value, "shape": shape})[0], value.reshape(wanted))
        shape[:] = [4, 4]
        with self.assertRaises(apus.Error):
            session.run(None, {"x": value, "shape": shape})

    def test_names_of_unknown_extents(self) -> None:
        """`?`, no name and None, as converters write them, say nothing: two of them need not be equal."""
        for name in ("?", "", "None", None):
            kinds = {"a": tensor(TensorProto.FLOAT, [name, name]), "b": tensor(TensorProto.FLOAT, [name, name])}
            model = model_of([helper.make_node("Concat", ["a", "b"], ["y"], axis=0)], kinds, ["y"])
            session = apus.InferenceSession(model)
            self.assertEqual(session.get_inputs()[0].shape, [None, None])
            feeds = {"a": np.ones((3, 2), np.float32), "b": np.zeros((1, 2), np.float32)}
            self.assertEqual(session.run(None, feeds)[0].tolist(), [[1, 1]] * 3 + [[0, 0]])

    def test_strings(self) -> None:
        session = identity(tensor(TensorProto.STRING, [None]))
        for value in (["a", "", "ä\0b"], np.array(["a", "bc"]), np.array([b"a", b"bc"]), np.array([], object)):
            (found,) = session.run(None, {"x": value})
            self.assertEqual(found.dtype, object)
            wanted = [item.decode() if isinstance(item, bytes) else item for item in list(value)]
            self.assertEqual(found.tolist(), wanted)
        with self.assertRaisesRegex(apus.InputError, "str or bytes"):
            session.run(None, {"x": np.array([1, None], object)})
        with self.assertRaisesRegex(apus.InputError, "UTF-8"):
            session.run(None, {"x": np.array([b"\xff"])})


class Containers(unittest.TestCase):
    def test_sequences(self) -> None:
        session = identity(helper.make_sequence_type_proto(tensor(TensorProto.FLOAT)))
        self.assertEqual(session.get_inputs()[0], apus.NodeArg("x", "seq(tensor(float))", []))
        self.assertIsNone(session.get_inputs()[0].rank)
        value = [np.ones((2, 3), np.float32), np.zeros(0, np.float32), np.float32(4)]
        (found,) = session.run(None, {"x": value})
        self.assertEqual([item.tolist() for item in found], [np.asarray(item).tolist() for item in value])
        self.assertEqual(session.run(None, {"x": []}), [[]])
        with self.assertRaisesRegex(apus.InputError, "element 1"):
            session.run(None, {"x": [np.ones(1, np.float32), np.ones(1, np.int32)]})
        with self.assertRaisesRegex(apus.InputError, "a list was expected"):
            session.run(None, {"x": "text"})

    def test_optionals(self) -> None:
        kinds = tensor(TensorProto.FLOAT), helper.make_sequence_type_proto(tensor(TensorProto.STRING))
        for kind, value in zip(kinds, (np.ones(2, np.float32), [np.array(["a"], object)]), strict=True):
            session = identity(helper.make_optional_type_proto(kind))
            self.assertEqual(session.run(None, {"x": None}), [None])
            (found,) = session.run(None, {"x": value})
            self.assertEqual(np.asarray(found).tolist(), np.asarray(value).tolist())

    def test_maps(self) -> None:
        for keys, values, wanted in (
            (TensorProto.INT64, TensorProto.FLOAT, {7: 0.5, -3: 2.0}),
            (TensorProto.STRING, TensorProto.DOUBLE, {"ä": 0.25, "": 1.0}),
            (TensorProto.STRING, TensorProto.STRING, {"a": "b"}),
            (TensorProto.INT64, TensorProto.INT64, {}),
        ):
            with apus._values.Handles() as handles:
                key, value = apus._types.BY_NUMBER[keys].name, apus._types.BY_NUMBER[values].name
                kind = apus._types.parse_type(f"map({key},tensor({value}))")
                handle = handles.make(wanted, kind, "m")
                handles._handles.remove(handle)
                self.assertEqual(apus._values.take(handle), wanted)

    def test_type_texts(self) -> None:
        kind = apus._types.parse_type("optional(seq(map(int64,tensor(float))))")
        assert kind and kind.content and kind.content.content and kind.content.content.content
        self.assertEqual(kind.content.content.element.name, "int64")
        self.assertEqual(kind.content.content.content.text, "tensor(float)")
        self.assertIsNone(apus._types.parse_type(""))


class Errors(unittest.TestCase):
    def test_inputs(self) -> None:
        session = apus.InferenceSession(MODELS / "digits.onnx")
        image = np.zeros((1, 1, 8, 8), np.float32)
        for feeds, text in (
            ({}, "'input' .* is missing"),
            ({"input": image, "other": image}, "no input 'other'"),
            ({"Inputs": image}, "'input' .* is missing; .*'Inputs' .did you mean 'input'"),
            ({"input": image.astype(np.float64)}, "float64; expected float32"),
            ({"input": image[0]}, r"shape \[1, 8, 8\]"),
            ({"input": None}, "a tensor was expected"),
            ({"input": image.view("V4")}, "no type of ONNX"),
        ):
            with self.assertRaisesRegex(apus.InputError, text):
                session.run(None, feeds)
        with self.assertRaisesRegex(ValueError, "no output 'x'"):
            session.run(["x"], {"input": image})
        with self.assertRaisesRegex(ValueError, "output_names is 'output'; expected a list of names"):
            session.run("output", {"input": image})
        with self.assertRaisesRegex(ValueError, "no input 'no'. Inputs are: input$"):
            session.io_binding().bind_cpu_input("no", image)
        # Not cut off where the library's texts end.
        for wanted, feeds in (([session.get_outputs()[0].name + "\0x"], {"input": image}), (None, {"input\0x": image})):
            with self.assertRaises(ValueError):
                session.run(wanted, feeds)
        for options in ({"extra_outputs": ["x\0"]}, {"precision": "f32\0"}, {"dimensions": {"batch\0": 1}}):
            with self.assertRaisesRegex(ValueError, "holds a NUL"):
                apus.InferenceSession(MODELS / "digits.onnx", **options)
        with self.assertRaisesRegex(ValueError, "holds a NUL"):
            apus.InferenceSession(f"{MODELS}/digits.onnx\0")
        np.testing.assert_array_equal(session.run([], {"input": image})[0], session.run(None, {"input": image})[0])

    def test_models(self) -> None:
        with self.assertRaises(apus.ModelError) as caught:
            apus.InferenceSession("/nowhere.onnx")
        self.assertEqual(caught.exception.code, apus.ErrorCode.CANNOT_READ)
        with self.assertRaisesRegex(apus.ModelError, "^the path of a file was expected"):
            apus.InferenceSession("")
        for content in (b"", b"no model", (MODELS / "digits.onnx").read_bytes()[:-100]):
            with self.assertRaises(apus.ModelError):
                apus.InferenceSession(content)
        bad = model_of([helper.make_node("NoSuch", ["x"], ["y"])], {"x": tensor(1, [1])}, ["y"])
        with self.assertRaisesRegex(apus.ModelError, "NoSuch"):
            apus.InferenceSession(bad)

    def test_missing_library(self) -> None:
        environment = os.environ | {"APUS_LIBRARY": "/nowhere/libapus-c.so", "PYTHONPATH": str(ROOT / "tools/python")}
        program = (
            "import apus\ntry: apus.InferenceSession('x')\nexcept apus.LibraryNotFoundError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        self.assertIn("/nowhere/libapus-c.so", done.stdout, done.stderr)
        self.assertIn("swift build", done.stdout)

    def test_versions(self) -> None:
        self.assertEqual(apus.library_version(), apus.__version__)


class Threads(unittest.TestCase):
    def test_one_session_in_many_threads(self) -> None:
        session = apus.InferenceSession(MODELS / "digits.onnx", threads=2)
        images = np.random.default_rng(2).random((8, 1, 8, 8), np.float32)
        expected = [session.run(None, {"input": images[i : i + 1]})[0] for i in range(8)]
        wrong = []

        def work(index: int) -> None:
            for _ in range(20):
                (found,) = session.run(None, {"input": images[index : index + 1]})
                if not np.array_equal(found, expected[index]):
                    wrong.append(index)

        workers = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(wrong, [])

    def test_sessions_share_their_threads(self) -> None:
        """Ten sessions of eight threads have the seven workers of one, beside whoever calls."""

        def workers() -> int:
            names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
            return names.count("apus-worker")

        gc.collect()
        before = workers()
        model = MODELS / "digits.onnx"
        sessions = [apus.InferenceSession(model, threads=8) for _ in range(10)]
        feed = {
            arg.name: np.zeros([d if isinstance(d, int) else 1 for d in arg.shape], np.float32)
            for arg in sessions[0].get_inputs()
        }
        for session in sessions:
            session.run(None, feed)
        self.assertLessEqual(workers() - before, 7)
        del session, sessions
        gc.collect()
        self.assertEqual(workers(), before)

    def test_cancellation_and_timeout(self) -> None:
        session = apus.InferenceSession(long_model(), threads=1)
        value = np.zeros((1500, 1500), np.float32)
        with self.assertRaises(apus.CancelledError):
            session.run(None, {"x": value}, timeout=0.01)
        cancellation = apus.Cancellation()
        # The timer can end the run only because the interpreter's lock is free during it.
        timer = threading.Timer(0.05, cancellation.cancel)
        timer.start()
        start = time.monotonic()
        with self.assertRaises(apus.CancelledError):
            session.run(None, {"x": value}, cancellation=cancellation)
        self.assertLess(time.monotonic() - start, 60)
        timer.join()
        with self.assertRaises(apus.InputError):
            apus.Cancellation(-1)


class Engines(unittest.TestCase):
    def test_budget(self) -> None:
        engine = apus.Engine(threads=2, memory_budget=24 << 20)
        self.assertEqual((engine.threads, engine.memory_budget, engine.memory_in_use), (2, 24 << 20, 0))
        session = apus.InferenceSession(MODELS / "digits.onnx", engine=engine)
        self.assertEqual(session.threads, 2)
        loaded = engine.memory_in_use
        self.assertGreater(loaded, 0)
        (few,) = session.run(None, {"input": np.zeros((2, 1, 8, 8), np.float32)})
        self.assertGreater(engine.memory_in_use, loaded)
        with self.assertRaisesRegex(apus.Error, "'digits.onnx'.* memory_budget is"):
            session.run(None, {"input": np.zeros((100_000, 1, 8, 8), np.float32)})
        self.assertEqual(few.shape, (2, 10))
        del few, session
        gc.collect()
        self.assertEqual(engine.memory_in_use, 0)
        with self.assertRaisesRegex(apus.Error, "memory_budget is 1000"):
            apus.InferenceSession(MODELS / "digits.onnx", engine=apus.Engine(memory_budget=1000))

    def test_arguments(self) -> None:
        self.assertIsNone(apus.Engine().memory_budget)
        for arguments, text in (({"threads": 0}, "threads is 0"), ({"memory_budget": 0}, "memory_budget is 0")):
            with self.assertRaisesRegex(apus.InvalidArgument, text):
                apus.Engine(**arguments)
        with self.assertRaisesRegex(apus.InvalidArgument, "expected apus.Engine"):
            apus.InferenceSession(MODELS / "digits.onnx", engine=3)  # type: ignore[arg-type]
        with self.assertRaisesRegex(apus.InputError, "priority is 5"):
            apus.InferenceSession(MODELS / "digits.onnx", priority=5)

    def test_priorities(self) -> None:
        """Results are the same at every priority, beside runs of others."""
        engine = apus.Engine(threads=2)
        model = long_model()
        values = np.random.default_rng(4).random((20, 20), np.float32) / 10
        sessions = [apus.InferenceSession(model, engine=engine, priority=priority) for priority in apus.Priority]
        (expected,) = sessions[0].run(None, {"x": values})
        wrong = []

        def work(session: apus.InferenceSession) -> None:
            for _ in range(30):
                if not np.array_equal(session.run(None, {"x": values})[0], expected):
                    wrong.append(session)

        threads = [threading.Thread(target=work, args=(session,)) for session in sessions * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


class Backends(unittest.TestCase):
    def test_run_node_and_model(self) -> None:
        x, y = np.array([[1, 2]], np.float32), np.array([[3], [4]], np.float32)
        (found,) = apus.backend.run_node(helper.make_node("MatMul", ["x", "y"], ["z"]), [x, y])
        self.assertEqual(found.tolist(), [[11]])
        (found,) = apus.backend.run_node(helper.make_node("Add", ["x", "x"], ["z"]), x.astype(ml_dtypes.bfloat16))
        self.assertEqual((found.tolist(), found.dtype), ([[2, 4]], np.dtype(ml_dtypes.bfloat16)))
        model = model_of([helper.make_node("Neg", ["x"], ["y"])], {"x": tensor(1, [1, 2])}, ["y"])
        self.assertEqual(apus.backend.run_model(model, [x]).y.tolist(), [[-1, -2]])
        self.assertEqual(apus.backend.prepare(model).run({"x": x})[0].tolist(), [[-1, -2]])
        self.assertTrue(apus.backend.supports_device("CPU"))
        self.assertFalse(apus.backend.supports_device("CUDA:1"))
        with self.assertRaises(ValueError):
            apus.backend.prepare(model, "CUDA")
        with self.assertRaises(ValueError):
            apus.backend.prepare(model).run([x, x])


if __name__ == "__main__":
    unittest.main()
