"""What the program prints: values as JSON, one form of errors, status, lost output, pictures of graphs."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree

import numpy as np
import onnx
from onnx import TensorProto, helper

from . import program
from .program import Case, constant, identity, model, tensor

T = TensorProto


class Values(Case):
    """run --json."""

    def value(self, made: onnx.ModelProto, *arguments) -> object:
        self.save(made)
        return self.json("run", "model.onnx", *arguments)["outputs"][0]

    def test_every_type(self) -> None:
        cases = {
            T.FLOAT: [[0.1, -1.5e-7], [3e38, 0.0]],
            T.DOUBLE: [[0.1, 1e300], [5e-324, 2.0]],
            T.FLOAT16: [[0.5, 65504.0], [1.0, -2.0]],
            T.INT64: [[2**63 - 1, -(2**63)], [0, 2**53 + 1]],
            T.UINT64: [[2**64 - 1, 0], [1, 2]],
            T.INT8: [[-128, 127], [0, 1]],
            T.UINT8: [[255, 0], [1, 2]],
            T.INT32: [[-1, 2], [3, 4]],
            T.BOOL: [[True, False], [False, True]],
            T.STRING: [['a"\\\n\x01é', ""], ["NaN", "😀"]],
        }
        for type_, expected in cases.items():
            with self.subTest(T.DataType.Name(type_)):
                array = np.array(expected, object if type_ == T.STRING else helper.tensor_dtype_to_np_dtype(type_))
                text = array.reshape(-1).tolist()
                made = helper.make_tensor(
                    "w", type_, [2, 2], [s.encode() for s in text] if type_ == T.STRING else array.reshape(-1)
                )
                output = self.value(model([], [], [tensor("w", [2, 2], type_)], [made]))
                self.assertEqual(output["shape"], [2, 2])
                found = output["value"]
                self.assertEqual(
                    np.array(found, array.dtype).tolist() if "FLOAT" in T.DataType.Name(type_) else found,
                    array.tolist(),
                )

    def test_narrow_types(self) -> None:
        for type_, numbers in {
            T.BFLOAT16: [1.0, -2.0],
            T.FLOAT8E4M3FN: [0.5, 448.0],
            T.INT4: [-8, 7],
            T.UINT2: [3, 0],
        }.items():
            output = self.value(
                model([], [], [tensor("w", [2], type_)], [helper.make_tensor("w", type_, [2], numbers)])
            )
            self.assertEqual(output["value"], numbers)

    def test_what_is_no_number(self) -> None:
        values = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
        output = self.value(model([], [], [tensor("w", [4])], [constant("w", values)]))
        self.assertEqual(output["value"], ["NaN", "Infinity", "-Infinity", 1.0])
        self.write("x.json", json.dumps(output["value"]))
        self.save(identity(shape=[4]))
        self.assertEqual(self.json("run", "model.onnx", "-i", "x.json")["outputs"][0]["value"], output["value"])

    def test_shapes(self) -> None:
        for shape in ([], [0], [2, 0], [0, 3], [2, 0, 3], [1, 1, 2, 1], [3, 1], [2, 2, 2]):
            values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
            output = self.value(model([], [], [tensor("w", shape, T.INT64)], [constant("w", values)]))
            self.assertEqual((output["value"], output["shape"]), (values.tolist(), shape))

    def test_containers(self) -> None:
        sequence = helper.make_tensor_sequence_value_info("s", T.FLOAT, None)
        made = model([helper.make_node("SequenceConstruct", ["x", "x"], ["s"])], [tensor("x", [2])], [sequence])
        self.array("x.npy", np.array([1, 2], np.float32))
        self.assertEqual(self.value(made, "-i", "x.npy")["value"], [[1.0, 2.0], [1.0, 2.0]])
        maps = helper.make_sequence_type_proto(
            helper.make_map_type_proto(T.STRING, helper.make_tensor_type_proto(T.FLOAT, []))
        )
        node = helper.make_node("ZipMap", ["x"], ["m"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"])
        made = model([node], [tensor("x", [1, 2])], [helper.make_value_info("m", maps)])
        made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        self.array("x.npy", np.array([[0.25, 0.75]], np.float32))
        self.assertEqual(self.value(made, "-i", "x.npy")["value"], [{"cat": 0.25, "dog": 0.75}])
        self.apus("run", "model.onnx", "-i", "x.npy", "-o", "m.json")
        self.assertEqual(json.loads(self.path("m.json").read_text()), [{"cat": 0.25, "dog": 0.75}])
        self.apus("run", "model.onnx", "-i", "x.npy", "-o", "m.npy", status=1)

    def test_large_outputs_are_whole(self) -> None:
        values = np.random.default_rng(1).random(100_000, np.float32)
        output = self.value(model([], [], [tensor("w", [100_000])], [constant("w", values)]))
        np.testing.assert_array_equal(np.array(output["value"], np.float32), values)


class OneStyle(Case):
    def test_every_command_has_a_version_and_names_like_these(self) -> None:
        self.save(identity(shape=["n", 3]))
        for command in (
            ["run", "model.onnx", "--random"],
            ["info", "model.onnx"],
            ["check", "model.onnx"],
            ["graph", "model.onnx", "-o", "g.svg"],
            ["bench", "model.onnx", "--seconds", "0.05"],
            ["profile", "model.onnx", "--runs", 1],
            ["optimize", "model.onnx"],
            ["compile", "model.onnx", "-o", "model.apus"],
            ["run", "model.apus", "--random"],
            ["info", "model.apus"],
            ["check", "model.apus"],
            ["bench", "model.apus", "--seconds", "0.05"],
            ["plan", "model.apus"],
            ["graph", "model.apus", "-o", "compiled.svg"],
            ["operators", "Relu"],
            ["bench-kernels", "--only", "relu", "--milliseconds", 1],
        ):
            report = self.json(*command)
            for key in report:
                self.assertRegex(key, r"^[a-z][a-z0-9_]*$", f"{command}")

    def test_compiled_models(self) -> None:
        """The same results from another file, which says what it is for and cannot be optimized or compiled again."""
        self.save(identity(shape=["n", 3]))
        report = self.json("compile", "model.onnx", "--output", "m")
        self.assertEqual((report["file"], report["model"]), ("m", "model"))
        self.assertEqual(report["file_bytes"], (self.folder / "m").stat().st_size)
        self.assertIn(report["level"], self.json("info", "m")["compiled_for"])
        self.assertNotIn("compiled_for", self.json("info", "model.onnx"))
        for flags in [], ["--dim", "n=4"]:
            first, second = (self.json("run", name, "--random", *flags)["outputs"] for name in ("model.onnx", "m"))
            self.assertEqual(first, second)
        self.assertIn("cannot be optimized", self.apus("optimize", "m", status=1).stderr.decode())
        self.assertIn("compiled already", self.apus("compile", "m", "-o", "again", status=1).stderr.decode())
        self.assertIn("which passes", self.apus("run", "m", "--random", "--no-optimize", status=1).stderr.decode())
        streamed = self.apus("run", "-", "--random", "--json", input=(self.folder / "m").read_bytes())
        self.assertIn(b"outputs", streamed.stdout)

    def test_values_without_names(self) -> None:
        """What passes put in has no name; the node that computes it tells what it is."""
        weights = [constant("w", np.ones((4, 3, 3, 3), np.float32)), constant("v", np.ones((4, 4, 3, 3), np.float32))]
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], "first"),
            helper.make_node("Conv", ["a", "v"], ["y"], "second"),
        ]
        self.save(model(nodes, [tensor("x", [1, 3, 9, 9])], [tensor("y", [1, 4, 5, 5])], weights))
        self.apus("compile", "model.onnx", "-o", "m")
        values = self.json("info", "m")["values"]
        nameless = [value["node"] for value in values if not value["name"]]
        self.assertIn("apus.Conv 'first'", nameless)
        self.assertFalse([value for value in values if value["name"] and "node" in value])
        text = self.apus("info", "m", "--values").stdout.decode()
        self.assertIn("\n  (of apus.Conv 'first'): float32[", text)
        self.assertIn("\n  y: float32[", text)
        self.assertNotIn("\n  :", text)

    def test_what_passes_could_not_do(self) -> None:
        """A Swish whose curve is an output too."""
        self.save(
            model(
                [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"], name="product")],
                [tensor("x", [1])],
                [tensor("y", [1]), tensor("s", [1])],
            )
        )
        text = self.apus("optimize", "model.onnx", "--explain").stdout.decode()
        self.assertIn("not swish at Mul 'product': 's' is needed elsewhere", text)
        self.assertNotIn("not swish", self.apus("optimize", "model.onnx").stdout.decode())
        refused = [item for entry in self.json("optimize", "model.onnx")["passes"] for item in entry["refused"]]
        self.assertEqual([item["fusion"] for item in refused], ["swish"])
        changes = [entry["changes"] for entry in self.json("optimize", "model.onnx", "--stop-after", 0)["passes"]]
        self.assertEqual(sum(changes), 0)

    def test_saving_after_all_passes(self) -> None:
        """What only Apus has is standard again."""
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["s"]),
            helper.make_node("Relu", ["s"], ["y"]),
        ]
        constants = [constant("w", np.ones((3, 2), np.float32)), constant("b", np.ones(2, np.float32))]
        self.save(model(nodes, [tensor("x", ["n", 3])], [tensor("y", ["n", 2])], constants))
        self.apus("optimize", "model.onnx", "--passes", "all", "-o", "saved.onnx")
        saved = onnx.load(self.path("saved.onnx"))
        onnx.checker.check_model(saved)
        self.assertEqual([node.op_type for node in saved.graph.node], ["Gemm", "Relu"])
        self.assertEqual({node.domain for node in saved.graph.node}, {""})
        self.apus("optimize", "model.onnx", "--passes", "all", status=2)

    def test_plans(self) -> None:
        """Steps in order, and blocks of the arena that lie beside each other as long as both are needed."""
        nodes = [helper.make_node("MatMul", ["x", "x"], ["v0"], name="first")]
        nodes += [helper.make_node("MatMul", [f"v{k}", "x"], [f"v{k + 1}"], name=f"n{k}") for k in range(5)]
        nodes.append(helper.make_node("Softmax", ["v5"], ["y"], name="last"))
        self.save(model(nodes, [tensor("x", ["n", "n"])], [tensor("y", None)]))
        (plan,) = self.json("plan", "model.onnx", "--dim", "n=20")["plans"]
        self.assertEqual(plan["inputs"], ["x: float32[20, 20]"])
        self.assertEqual([step["node"] for step in plan["steps"]], ["first", *(f"n{k}" for k in range(5)), "last"])
        self.assertEqual(plan["output_bytes"], 1600)
        self.assertLessEqual(plan["arena_lower_bound"], plan["arena_bytes"])
        self.assertLess(plan["arena_bytes"], 6 * 1600 + 6 * 4096, "memory is used again")
        for one in plan["blocks"]:
            for other in plan["blocks"]:
                if one is other or one["last_wave"] < other["first_wave"] or other["last_wave"] < one["first_wave"]:
                    continue
                apart = one["offset"] + one["bytes"] <= other["offset"] or (
                    other["offset"] + other["bytes"] <= one["offset"]
                )
                self.assertTrue(apart, f"{one} and {other}")
        text = self.apus("plan", "model.onnx", "--dim", "n=20", "--blocks").stdout.decode()
        self.assertIn("7 steps, arena", text)
        self.assertIn("first wave", text)

    def test_choices_of_kernels(self) -> None:
        """What a kernel was chosen among when it was prepared, and when it was planned."""
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["v"], name="conv"),
            helper.make_node("MaxPool", ["v"], ["y", "i"], name="pool", kernel_shape=[2, 2]),
        ]
        weights = constant("w", np.ones((8, 8, 3, 3), np.float32))
        self.save(
            model(
                nodes,
                [tensor("x", [1, 8, 9, 9])],
                [tensor("y", None), tensor("i", None, TensorProto.INT64)],
                initializers=[weights],
            )
        )
        (plan,) = self.json("plan", "model.onnx", "--no-optimize")["plans"]
        choices = {step["node"]: step["choices"][-1] for step in plan["steps"]}
        self.assertEqual((choices["conv"]["point"], choices["conv"]["taken"]), ("convolution", "columns"))
        self.assertEqual((choices["pool"]["point"], choices["pool"]["taken"]), ("max pool", "rows of positions"))
        conv = {one["name"]: one for one in choices["conv"]["candidates"]}
        self.assertLess(conv["columns"]["operations"], conv["plain"]["operations"])
        self.assertEqual(conv["rows"]["refusal"], "more than 4 channels")
        text = self.apus("plan", "model.onnx", "--no-optimize", "--explain").stdout.decode()
        self.assertRegex(text, r"pool\n  max pool: rows of positions, of plain \d+; planes: positions are wanted")

    def test_keys_of_strangers_stay(self) -> None:
        self.save(
            model(
                [helper.make_node("Relu", ["x"], ["y"])],
                [tensor("x", [1])],
                [tensor("y", [1])],
                metadata={"someKey": "v"},
            )
        )
        report = self.json("info", "model.onnx")
        self.assertEqual(
            (report["metadata"], report["opsets"], report["ir_version"]), ({"someKey": "v"}, {"ai.onnx": 21}, 10)
        )


class KernelRates(Case):
    """bench-kernels."""

    def test_rates_are_held_against_limits(self) -> None:
        report = self.json("bench-kernels", "--only", "exp_f32", "--only", "gemm_f64", "--milliseconds", 1)
        self.assertEqual({row["kernel"] for row in report["kernels"]}, {"exp_f32", "gemm_f64"})
        self.assertEqual({row["unit"] for row in report["kernels"]}, {"GB/s", "GFLOP/s"})
        self.assertEqual((report["unmeasured"], report["slower"]), ([], []))
        for row in report["kernels"]:
            self.assertTrue(row["is_chosen"])
            self.assertGreater(row["rate"], 0)
            self.assertGreater(row["share"], 0)

    def test_variants(self) -> None:
        report = self.json("bench-kernels", "--only", "softplus_f32", "--variants", "--milliseconds", 1)
        rows = [row for row in report["kernels"] if row["size"] == "16 KB"]
        self.assertEqual(len({row["variant"] for row in rows}), len(rows))
        self.assertEqual([row["is_chosen"] for row in rows], [True] + [False] * (len(rows) - 1))
        portable = {"APUS_ISA": "portable"}
        command = ("bench-kernels", "--only", "softplus_f32", "--assert", "--milliseconds", 1)
        done = self.apus(*command, environment=portable)
        self.assertNotIn("avx", done.stdout.decode())

    def test_no_kernel(self) -> None:
        self.apus("bench-kernels", "--only", "nonsense", status=1)


class Errors(Case):
    def setUp(self) -> None:
        super().setUp()
        self.save(
            model(
                [helper.make_node("Add", ["input_ids", "attention_mask"], ["y"])],
                [tensor("input_ids", ["n"]), tensor("attention_mask", ["n"])],
                [tensor("y", ["n"])],
            )
        )

    def test_status(self) -> None:
        for arguments in (
            ["run"],
            ["run", "model.onnx", "--nonsense"],
            ["nonsense"],
            ["run", "model.onnx", "--top", "many"],
            ["run", "model.onnx", "--disable-pass", "zz"],
            ["graph", "model.onnx", "-o", "g.png"],
            ["run", "model.onnx", "extra"],
            ["run", ""],
            ["run", "model.onnx", "-i", "input_ids="],
            ["run", "model.onnx", "--image", "input_ids="],
            ["run", "model.onnx", "--audio", "input_ids="],
            ["run", "model.onnx", "--random", "-o", ""],
            ["run", "model.onnx", "--random", "-o", "y="],
        ):
            self.apus(*arguments, status=2)
        for arguments in (
            ["run", ""],
            ["run", "model.onnx", "-i", "input_ids="],
            ["run", "model.onnx", "--random", "-o", ""],
        ):
            self.assertIn("the name of the", self.apus(*arguments, status=2).stderr.decode())
        self.write("text.onnx", "hello")
        for arguments in (
            ["run", "no.onnx"],
            ["run", "text.onnx"],
            ["info", "."],
            ["run", "model.onnx"],
            ["conformance", "nowhere"],
            ["run", "model.onnx", "-i", "input_ids=no.npy"],
            ["run", "model.onnx", "--random", "--top", 1, "--labels", "no.txt"],
            ["run", "model.onnx", "--random", "--top", 1, "--labels", "/dev/zero"],
            ["operators", "NoSuchOperator"],
        ):
            self.apus(*arguments, status=1)
        self.assertIn("no folder 'nowhere'", self.apus("conformance", "nowhere", status=1).stderr.decode())

    def test_json(self) -> None:
        for arguments, code, status in (
            (["run", "no.onnx"], "cannotRead", 1),
            (["run", "--nonsense"], "usage", 2),
            (["run", "model.onnx"], "invalidInput", 1),
        ):
            error = self.json(*arguments, status=status)["error"]
            self.assertEqual((error["code"], error["status"]), (code, status))
            self.assertTrue(error["message"])
        self.save(model([helper.make_node("NoSuch", ["x"], ["y"])], [tensor("x", [1])], [tensor("y", [1])]), "bad.onnx")
        self.assertEqual(len(self.json("run", "bad.onnx", "--random", status=1)["error"]["problems"]), 1)
        self.assertEqual(self.json("check", "no.onnx", status=1)["valid"], False)

    def test_names_that_are_nearly_right(self) -> None:
        self.array("x.npy", np.zeros(1, np.float32))
        error = self.apus("run", "model.onnx", "-i", "input_id=x.npy", status=1).stderr.decode()
        self.assertIn("did you mean 'input_ids'", error)
        self.assertIn("attention_mask", error)
        error = self.apus("run", "model.onnx", "--disable-pass", "chanels-last", status=2).stderr.decode()
        self.assertIn("did you mean 'channels-last'? Passes are ", error)
        error = self.apus("run", "model.onnx", "--disable-pass", "zz", status=2).stderr.decode()
        self.assertIn("there is no pass 'zz'; passes are ", error)
        error = self.apus("run", "model.onnx", "-i", "zz=x.npy", status=1).stderr.decode()
        self.assertIn("there is no input 'zz'; inputs are ", error)
        error = self.apus("run", "model.onnx", "--random", "-o", "zz=y.npy", status=1).stderr.decode()
        self.assertIn("there is no value 'zz' to store; values are ", error)
        error = self.apus("rnu", "model.onnx", status=2).stderr.decode()
        self.assertIn("there is no command 'rnu'; did you mean 'run'? Commands are run, ", error)
        self.assertIn("; commands are run, ", self.apus("nonsense", status=2).stderr.decode())
        self.assertNotIn("?.", self.apus("optimise", status=2).stderr.decode())
        np.savez(self.path("in.npz"), input_ids=np.zeros(1, np.float32), mask=np.zeros(1, np.float32))
        self.assertIn("'mask'", self.apus("run", "model.onnx", "-i", "in.npz", status=1).stderr.decode())

    def test_names_of_strangers(self) -> None:
        for name in ("a\x1b[31m\nb", "n" * 100_000, "\u202egpj", "b\x07\x7f\u2028"):
            self.save(
                model([helper.make_node("NoSuch", ["x"], [name], name=name)], [tensor("x", [1])], [tensor(name, [1])])
            )
            for command in (["run", "model.onnx", "--random"], ["check", "model.onnx"]):
                done = (
                    self.apus(*command, status=1)
                    if command[0] == "run"
                    else self.apus(*command, status=1, check_error=False)
                )
                self.assertNotRegex((done.stdout + done.stderr).decode(), "[\x00-\x09\x0b-\x1f\x7f\u202e\u2028]")
                self.assertLess(len(done.stdout + done.stderr), 6000)
            self.save(
                model([helper.make_node("Identity", ["x"], [name], name=name)], [tensor("x", [1])], [tensor(name, [1])])
            )
            done = self.apus("run", "model.onnx", "--random")
            self.assertNotRegex(done.stdout.decode(), "[\x00-\x09\x0b-\x1f\x7f\u202e\u2028]")
            self.apus("graph", "model.onnx", "-o", "g.svg")
            ElementTree.parse(self.path("g.svg"))

    def test_numbers_that_cannot_be(self) -> None:
        self.save(identity(shape=["n"]))
        for command, texts in {
            "run --random": [
                "--top=-1",
                "--top -1",
                "--top 0",
                "--threads 0",
                "--threads -3",
                "--threads 1000000000",
                "--memory 0",
                "--memory 12x",
                "--memory -1K",
                "--memory 99999999999G",
                "--timeout nan",
                "--timeout -1",
                "--timeout inf",
                "--timeout 1e300",
                "--timeout 0",
                "--seed -1",
                "--dim n=-1",
                "--dim n=x",
                "--shape x=-1",
                "--shape x=1xx2",
                "--shape x=9223372036854775807x9223372036854775807",
                "--scale nan",
                "--std 0",
                "--mean a",
                "--pad-value 256",
                "--sample-rate 0",
            ],
            "bench": [
                "--seconds nan",
                "--seconds inf",
                "--seconds=-1",
                "--seconds 1e300",
                "--runs 0",
                "--runs -1",
                "--warmup -1",
                "--batch 0",
            ],
            "profile": ["--limit=-1", "--limit -1", "--runs 0"],
            "info": ["-t 0"],
            "optimize": ["--stop-after -1"],
            "bench-kernels": ["--milliseconds 0"],
        }.items():
            for text in texts:
                with self.subTest(f"{command} {text}"):
                    name, *rest = command.split()
                    error = self.apus(name, "model.onnx", *rest, *text.split(), status=2).stderr.decode()
                    self.assertNotIn("Missing value", error)
        for name, status in (
            ("sse9", 2),
            ("avx512-", 2),
            ("avx512-sse9", 2),
            ("portable", 0),
            ("avx512-vnni", 0),
            ("", 0),
        ):
            self.apus("run", "model.onnx", "--random", environment={"APUS_ISA": name}, status=status)
        for name, status in (("soon", 2), ("-1", 2), ("0", 0), ("500", 0), ("", 0)):
            self.apus("run", "model.onnx", "--random", environment={"APUS_SPIN_US": name}, status=status)
        for command in (["run", "--random"], ["info"], ["check"], ["plan"], ["optimize"]):
            error = self.apus(
                command[0], "model.onnx", *command[1:], environment={"APUS_ISA": "sse9"}, status=2
            ).stderr.decode()
            self.assertIn("APUS_ISA is 'sse9'; expected portable", error)
            self.assertIn("`apus --help` explains", error)
        for text in ("--dim n=1000000000", "--dim n=6000000000", "--dim n=4611686018427387904", "--shape x=6000000000"):
            for command in (["run", "--random"], ["bench", "--seconds", "0.1"], ["profile"]):
                self.apus(command[0], "model.onnx", *command[1:], *text.split(), status=1)

    def test_memory(self) -> None:
        """One budget for the model and its runs."""
        self.save(identity(shape=["n"]))
        self.apus("run", "model.onnx", "--random", "--dim", "n=100000", "--memory", "16m")
        error = self.apus("run", "model.onnx", "--random", "--dim", "n=100000", "--memory", "100K", status=1)
        self.assertIn("--memory is 102400", error.stderr.decode())
        error = self.apus("run", "model.onnx", "--random", "--dim", "n=100000", "--memory", "1K", status=1)
        self.assertIn("0 are in use; --memory is 1024", error.stderr.decode())
        self.apus("bench", "model.onnx", "--runs", 1, "--memory", 1 << 20)

    def test_median(self) -> None:
        self.save(identity(shape=["n"]))
        times = self.json("bench", "model.onnx", "--runs", 2)
        self.assertAlmostEqual(times["median_ms"], times["mean_ms"], places=9)

    def test_negative_values_are_values(self) -> None:
        self.save(identity(shape=[1, 2, 2]))
        self.write("p.ppm", b"P6 2 2 255\n" + bytes(12))
        output = self.json("run", "model.onnx", "--image", "p.ppm", "--mean", "-0.5", "--std", "-1", "--scale", "-1")[
            "outputs"
        ][0]
        self.assertEqual(output["value"][0][0][0], -0.5)


class Surroundings(Case):
    def test_lost_output(self) -> None:
        self.save(identity(shape=[4]))
        for command in (
            ["run", "model.onnx", "--random"],
            ["info", "model.onnx"],
            ["check", "model.onnx"],
            ["operators"],
            ["--help"],
            ["--version"],
            ["bench", "model.onnx", "--seconds", "0.05"],
            ["profile", "model.onnx", "--runs", 1],
        ):
            for more in ([], ["--json"])[: 2 if command[0][0] != "-" else 1]:
                with open("/dev/full", "wb") as full:
                    self.apus(*command, *more, stdout=full, status=1)

    def test_reader_that_goes(self) -> None:
        done = subprocess.run(
            ["bash", "-c", '"$0" operators --json | head -c 10 >/dev/null; echo ${PIPESTATUS[0]}', program.APUS],
            capture_output=True,
        )
        self.assertEqual(done.stdout.split(b"\n")[-2], b"1")
        self.assertEqual(done.stderr, b"")

    def test_closed_descriptors(self) -> None:
        self.save(identity(shape=[4]))
        before = self.path("model.onnx").read_bytes()
        for text, status in (("<&- >&- 2>&-", 1), (">&-", 1), ("<&-", 0), ("2>&-", 0)):
            command = f'"$0" run model.onnx --random --output y.npz {text}'
            done = subprocess.run(["bash", "-c", command, program.APUS], cwd=self.folder, capture_output=True)
            self.assertEqual(done.returncode, status, text)
            self.assertEqual(self.path("model.onnx").read_bytes(), before)
            self.assertTrue(np.load(self.path("y.npz")))

    def test_version_help_and_completion(self) -> None:
        self.assertRegex(self.apus("--version").stdout.decode(), r"^apus \d+\.\d+\.\d+\n$")
        self.assertIn("JPEG 2000", self.apus("run", "--help").stdout.decode().replace("\n", " "))
        for name in ("APUS_ISA", "APUS_SPIN_US"):
            self.assertIn(name, self.apus("--help").stdout.decode())
        self.assertEqual(self.apus("help", "run").stdout, self.apus("run", "--help").stdout)
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("onnx", self.apus("--generate-completion-script", shell).stdout.decode())


class Pictures(Case):
    """apus graph."""

    def layers(self, count: int) -> onnx.ModelProto:
        operators = ["Neg", "Exp", "Relu", "Sqrt", "Abs", "Tanh", "Ceil", "Sin"]
        names = [f"v{k}" for k in range(count * len(operators) + 1)]
        nodes = [
            helper.make_node(operators[k % len(operators)], [names[k]], [names[k + 1]], name=f"layer{k // 8}/{k}")
            for k in range(len(names) - 1)
        ]
        return model(nodes, [tensor(names[0], [2])], [tensor(names[-1], [2])])

    def test_large_graphs_are_folded(self) -> None:
        self.save(self.layers(100))
        folded = self.json("graph", "model.onnx", "-o", "g.svg")
        self.assertEqual((folded["boxes"], folded["folded_nodes"]), (102, 800))
        self.assertIn("part 3 of 100", self.path("g.svg").read_text())
        self.assertIn("layer99/799", self.path("g.svg").read_text())
        whole = self.json("graph", "model.onnx", "-o", "g.svg", "--all")
        self.assertEqual((whole["boxes"], whole["folded_nodes"]), (802, 0))
        self.save(self.layers(30))
        self.assertEqual(self.json("graph", "model.onnx", "-o", "g.dot")["folded_nodes"], 0)

    def test_irregular_graphs_are_folded(self) -> None:
        operators = ["Neg", "Exp", "Relu", "Sqrt", "Abs"]
        random = np.random.default_rng(0)
        nodes = [helper.make_node(operators[random.integers(5)], [f"v{k}"], [f"v{k + 1}"]) for k in range(2000)]
        self.save(model(nodes, [tensor("v0", [2])], [tensor("v2000", [2])]))
        self.assertLess(self.json("graph", "model.onnx", "-o", "g.dot")["boxes"], 400)
        ElementTree.parse(self.path(self.apus("graph", "model.onnx", "-o", "g.svg") and "g.svg"))

    def test_tooltips_are_whole(self) -> None:
        name = "a/very/long/name/of/a/node/that/does/not/fit/into/the/box/of/a/node"
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            name=name,
            kernel_shape=[1, 1],
            pads=[0, 0, 0, 0],
            dilations=[1, 1],
            strides=[1, 1],
            auto_pad="NOTSET",
        )
        self.save(
            model(
                [node], [tensor("x", [1, 1, 4, 4])], [tensor("y")], [constant("w", np.ones((1, 1, 1, 1), np.float32))]
            )
        )
        for file in ("g.svg", "g.dot"):
            self.apus("graph", "model.onnx", "-o", file)
            text = self.path(file).read_text()
            for part in (name, "dilations = [1, 1]", "strides = [1, 1]", "pads = [0, 0, 0, 0]", "auto_pad = NOTSET"):
                self.assertIn(part, text)
