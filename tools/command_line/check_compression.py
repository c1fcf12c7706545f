"""Pruning, clustering, distilling: files that onnxruntime runs alike, reports, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper

from .program import Case, constant, model, tensor


def network(channels: int = 16, seed: int = 1) -> onnx.ModelProto:
    """Convolutions with a residual, a depthwise one, a concatenation, and ten numbers at the end."""
    random = np.random.default_rng(seed)
    weights = lambda *shape: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    node = helper.make_node
    c = channels
    return model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="stem", pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["ar"]),
            node("Conv", ["ar", "w2"], ["d"], name="depthwise", group=c, pads=[1, 1, 1, 1]),
            node("Conv", ["d", "w3"], ["p"], name="pointwise"),
            node("Add", ["ar", "p"], ["sum"]),
            node("Conv", ["sum", "w4"], ["e"], name="expand"),
            node("Concat", ["sum", "e"], ["cat"], axis=1),
            node("GlobalAveragePool", ["cat"], ["mean"]),
            node("Flatten", ["mean"], ["flat"]),
            node("Gemm", ["flat", "w5", "b5"], ["scores"], name="classifier", transB=1),
        ],
        [tensor("x", ["n", 3, 8, 8])],
        [tensor("scores", ["n", 10])],
        [
            constant("w1", weights(c, 3, 3, 3)),
            constant("b1", weights(c)),
            constant("w2", weights(c, 1, 3, 3)),
            constant("w3", weights(c, c, 1, 1)),
            constant("w4", weights(8, c, 1, 1)),
            constant("w5", weights(10, c + 8)),
            constant("b5", weights(10)),
        ],
    )


class Compression(Case):
    def setUp(self) -> None:
        super().setUp()
        self.save(network())
        self.images = np.random.default_rng(2).standard_normal((6, 3, 8, 8)).astype(np.float32)
        np.savez(self.path("images.npz"), x=self.images)

    def same_in_onnxruntime(self, name: str) -> np.ndarray:
        import onnxruntime

        np.save(self.path("x.npy"), self.images)
        self.apus("run", name, "-i", "x=x.npy", "-o", "y.npy")
        expected = onnxruntime.InferenceSession(str(self.path(name))).run(None, {"x": self.images})[0]
        np.testing.assert_allclose(np.load(self.path("y.npy")), expected, atol=1e-5, rtol=1e-4)
        return expected

    def weights(self, name: str) -> dict[str, np.ndarray]:
        graph = onnx.load(self.path(name)).graph
        return {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}

    def test_sparsity(self) -> None:
        report = self.json("sparsity", "model.onnx")["sparsity"]
        nodes = ["stem", "depthwise", "pointwise", "expand", "classifier"]
        self.assertEqual([w["node"] for w in report["weights"]], nodes)
        self.assertEqual(report["zeros"], 0)
        self.assertIn("w5", self.apus("sparsity", "model.onnx").stdout.decode())

    def test_structured(self) -> None:
        report = self.json(
            "prune", "model.onnx", "-o", "p.onnx", "--structured", 0.5, "--seconds", 0.1, "--data", "images.npz"
        )
        groups = {
            tuple(group["producers"]): (group["channels_before"], group["channels_after"])
            for group in report["pruning"]["groups"]
        }
        self.assertEqual(groups[("stem", "depthwise", "pointwise")], (16, 8))
        self.assertEqual(groups[("expand",)], (8, 4))
        self.assertEqual([k["node"] for k in report["pruning"]["kept"]], ["classifier"])
        after = report["comparison"]["after"]
        self.assertLess(after["parameters"], report["comparison"]["before"]["parameters"])
        self.assertEqual(after["file_bytes"], self.path("p.onnx").stat().st_size)
        self.assertEqual(report["comparison"]["outputs"][0]["samples"], 6)
        self.assertEqual(self.same_in_onnxruntime("p.onnx").shape, (6, 10))
        self.assertEqual(sorted(w.shape for w in self.weights("p.onnx").values())[-1], (10, 12))
        onnx.checker.check_model(str(self.path("p.onnx")), full_check=True)

    def test_magnitude(self) -> None:
        before = self.weights("model.onnx")
        self.apus("prune", "model.onnx", "-o", "p.onnx", "--magnitude", 0.5, "--exclude", "classifier")
        after = self.weights("p.onnx")
        for name in ["w1", "w2", "w3", "w4"]:
            expected = before[name].reshape(-1).copy()
            expected[np.argsort(np.abs(expected), kind="stable")[: expected.size // 2]] = 0
            np.testing.assert_array_equal(after[name].reshape(-1), expected)
        np.testing.assert_array_equal(after["w5"], before["w5"])
        self.same_in_onnxruntime("p.onnx")

    def test_pattern(self) -> None:
        self.apus("prune", "model.onnx", "-o", "p.onnx", "--pattern", "2:4", "--include", "Gemm")
        after = self.weights("p.onnx")["w5"].reshape(10, 6, 4)
        self.assertTrue(((after != 0).sum(axis=2) == 2).all())
        rows = {w["node"]: w["two_of_four"] for w in self.json("sparsity", "p.onnx")["sparsity"]["weights"]}
        self.assertEqual(rows["classifier"], 1)

    def test_pattern_of_a_weight_that_is_read_two_ways(self) -> None:
        node = helper.make_node
        self.save(
            model(
                [
                    node("Gemm", ["x", "w"], ["h"], name="down", transB=1),
                    node("Relu", ["h"], ["r"]),
                    node("MatMul", ["r", "w"], ["y"], name="up"),
                ],
                [tensor("x", [2, 8])],
                [tensor("y", [2, 8])],
                [constant("w", np.random.default_rng(3).standard_normal((4, 8)).astype(np.float32))],
            )
        )
        report = self.json("prune", "model.onnx", "-o", "p.onnx", "--pattern", "2:4", "--seconds", 0)["pruning"]
        told = "2:4 holds for 'w' as 'down' reads it, not for 'up', which sums over another of its axes"
        self.assertEqual(report["notes"], [told])
        shown = self.apus("prune", "model.onnx", "-o", "p.onnx", "--pattern", "2:4", "--seconds", 0)
        self.assertIn(told, shown.stderr.decode())

    def test_targets_and_files(self) -> None:
        report = self.json("prune", "model.onnx", "-o", "p.onnx", "--target-macs", 0.5, "--seconds", 0)
        before, after = (self.json("info", name)["multiply_adds"] for name in ["model.onnx", "p.onnx"])
        self.assertNotEqual(before, after)
        self.write("f.json", json.dumps({"expand": 0.25}))
        self.write("i.json", json.dumps({"expand": [8, 7, 6, 5, 4, 3, 2, 1]}))
        self.apus(
            "prune", "model.onnx", "-o", "q.onnx", "--structured", 0, "--fractions", "f.json", "--importance", "i.json"
        )
        np.testing.assert_array_equal(self.weights("q.onnx")["w4"], self.weights("model.onnx")["w4"][:6])
        self.same_in_onnxruntime("q.onnx")
        self.assertIsNotNone(report["pruning"]["chosen_fraction"])

    def test_refusals(self) -> None:
        prune = ["prune", "model.onnx", "-o", "no.onnx"]
        for arguments, status in [
            ([], 2),
            (["--magnitude", 0.5, "--structured", 0.5], 2),
            (["--pattern", "4:2"], 2),
            (["--pattern", "x"], 2),
            (["--magnitude", 0.5, "--seconds", -1], 2),
            (["--magnitude", 1], 1),
            (["--magnitude", "nan"], 1),
            (["--structured", -0.5], 1),
            (["--magnitude", 0.5, "--include", "nobody"], 1),
            (["--structured", 0.5, "--exclude", "*"], 1),
            (["--target-macs", 1e-9], 1),
            (["--structured", 0.5, "--fractions", "missing.json"], 1),
            (["--structured", 0.5, "--data", "missing.npz"], 1),
            (["--magnitude", 0.5, "--target-macs", 0.5], 1),
        ]:
            with self.subTest(arguments):
                self.apus(*prune, *arguments, status=status)
                self.assertFalse(self.path("no.onnx").exists())
        self.write("f.json", "[1]")
        self.apus(*prune, "--structured", 0.5, "--fractions", "f.json", status=1)
        self.save(model([helper.make_node("Relu", ["x"], ["y"])], [tensor("x", [2])], [tensor("y", [2])]), "relu.onnx")
        for arguments in (["--structured", 0.5], ["--magnitude", 0.5]):
            self.apus("prune", "relu.onnx", "-o", "no.onnx", *arguments, status=1)
        self.apus("cluster", "relu.onnx", "-o", "no.onnx", "--codebook", 4, status=1)
        self.apus("cluster", "model.onnx", "-o", "no.onnx", "--codebook", 1, status=2)
        self.assertFalse(self.path("no.onnx").exists())

    def test_odd_weights(self) -> None:
        """Weights that are outputs, inputs too, shared, inside a branch, or in a file beside the model."""
        weights = np.random.default_rng(3).standard_normal((6, 6)).astype(np.float32)
        node = helper.make_node
        branch = lambda name: helper.make_graph(
            [node("MatMul", ["h", "inner_" + name], [name])], name, [], [tensor(name, ["n", 6])],
            [constant("inner_" + name, weights)],
        )
        made = model(
            [
                node("MatMul", ["x", "w"], ["h"], name="first"),
                node("MatMul", ["h", "w"], ["g"], name="second"),
                node("If", ["flag"], ["b"], name="choice", then_branch=branch("then"), else_branch=branch("else")),
                node("Add", ["g", "b"], ["y"]),
            ],
            [tensor("x", ["n", 6]), tensor("flag", [], TensorProto.BOOL), tensor("w", [6, 6])],
            [tensor("y", ["n", 6]), tensor("w", [6, 6])],
            [constant("w", weights)],
        )
        self.save(made, "odd.onnx")
        report = self.json("prune", "odd.onnx", "-o", "p.onnx", "--magnitude", 0.5, "--seconds", 0)
        rows = report["pruning"]["weights"]
        self.assertEqual([row["node"].split(" › ")[0] for row in rows], ["first", "choice", "choice"])
        self.assertTrue(all(row["zeros_after"] == 18 for row in rows))
        self.apus("prune", "odd.onnx", "-o", "no.onnx", "--structured", 0.5, status=1)
        self.apus("cluster", "odd.onnx", "-o", "c.onnx", "--codebook", 4, "--indices", "--seconds", 0)
        onnx.checker.check_model(str(self.path("c.onnx")))
        onnx.save(
            network(), self.path("outside.onnx"), save_as_external_data=True, location="outside.data", size_threshold=0
        )
        self.apus("prune", "outside.onnx", "-o", "p.onnx", "--structured", 0.5, "--seconds", 0)
        self.same_in_onnxruntime("p.onnx")
        self.apus("prune", "outside.onnx", "-o", "outside.data", "--structured", 0.5, status=2)

    def test_cluster(self) -> None:
        before = self.weights("model.onnx")
        report = self.json("cluster", "model.onnx", "-o", "c.onnx", "--codebook", 8, "--data", "images.npz")
        after = self.weights("c.onnx")
        for row in report["clustering"]["weights"]:
            found, old = after[row["weight"]], before[row["weight"]]
            values, counts = np.unique(found, return_counts=True)
            self.assertEqual(len(values), row["codebook"])
            share = counts / found.size
            self.assertAlmostEqual(row["entropy"], float(-(share * np.log2(share)).sum()), places=6)
            noise = ((old - found).astype(np.float64) ** 2).sum()
            signal = (old.astype(np.float64) ** 2).sum()
            self.assertAlmostEqual(row["sqnr"], float(10 * np.log10(signal / noise)), places=4)
        plain = self.same_in_onnxruntime("c.onnx")
        self.apus("cluster", "model.onnx", "-o", "i.onnx", "--codebook", 8, "--indices")
        self.assertLess(self.path("i.onnx").stat().st_size, self.path("c.onnx").stat().st_size)
        np.testing.assert_allclose(self.same_in_onnxruntime("i.onnx"), plain, atol=1e-6)

    def test_distil(self) -> None:
        self.apus("distil", "--teacher", "model.onnx", "--inputs", "images.npz", "-o", "t.npz", "--hidden", "flat",
                  "--temperature", 2)
        import onnxruntime

        expected = onnxruntime.InferenceSession(str(self.path("model.onnx"))).run(None, {"x": self.images})[0]
        stored = np.load(self.path("t.npz"))
        self.assertEqual(sorted(stored.files), ["flat", "scores", "scores.soft"])
        np.testing.assert_allclose(stored["scores"], expected, atol=1e-5)
        self.assertEqual(stored["flat"].shape, (6, 24))
        soft = np.exp(expected / 2) / np.exp(expected / 2).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(stored["scores.soft"], soft, atol=1e-6)
        self.save(network(seed=5), "student.onnx")
        student = onnxruntime.InferenceSession(str(self.path("student.onnx"))).run(None, {"x": self.images})[0]
        models = ["--teacher", "model.onnx", "--student", "student.onnx"]
        report = self.json("distil", *models, "--inputs", "images.npz", "--temperature", 2)["losses"][0]
        other = np.exp(student / 2) / np.exp(student / 2).sum(axis=1, keepdims=True)
        divergence = (soft * np.log(soft / other)).sum(axis=1).mean() * 4
        self.assertAlmostEqual(report["divergence"], float(divergence), places=5)
        self.assertAlmostEqual(report["mean_squared_error"], float(((expected - student) ** 2).mean()), places=5)
        agreement = (expected.argmax(axis=1) == student.argmax(axis=1)).mean()
        self.assertAlmostEqual(report["argmax_agreement"], float(agreement))

    def test_what_cannot_be_learnt_is_told(self) -> None:
        self.images[2, 0, 0, 0] = np.nan
        np.savez(self.path("images.npz"), x=self.images)
        report = self.json("distil", "--teacher", "model.onnx", "--inputs", "images.npz", "-o", "t.npz")
        self.assertEqual(len(report["notes"]), 1)
        self.assertIn("'scores' of 1 run holds numbers that are not finite", report["notes"][0])

    def test_samples_of_every_kind(self) -> None:
        """Files, arrays without a batch, tables, and samples that run together say what the archive says."""
        for number, image in enumerate(self.images):
            np.save(self.path(f"{number}.npy"), image[None])
        np.save(self.path("all.npy"), self.images)
        self.write("table.csv", "x\n" + "".join(f"{number}.npy\n" for number in range(6)))
        kinds = [["images.npz"], [f"{number}.npy" for number in range(6)], ["all.npy"], ["table.csv"]]
        stored = []
        for kind in [*kinds, ["images.npz", "--batch", 4], ["x=images.npz", "--batch", 6]]:
            with self.subTest(kind):
                self.apus("distil", "--teacher", "model.onnx", "-o", "t.npz", "--temperature", 2, "--inputs", *kind)
                found = np.load(self.path("t.npz"))
                stored.append({name: found[name] for name in found.files})
                for name, values in stored[0].items():
                    np.testing.assert_allclose(stored[-1][name], values, atol=1e-5)
        for kind in kinds:
            report = self.json(
                "prune", "model.onnx", "-o", "p.onnx", "--magnitude", 0.3, "--seconds", 0, "--data", *kind
            )
            (output,) = report["comparison"]["outputs"]
            self.assertEqual(output["samples"], 6)
            stored.append(output["cosine"])
        self.assertEqual(len(set(np.round(stored[-4:], 6))), 1)

    def test_a_state_goes_from_sample_to_sample(self) -> None:
        node = helper.make_node
        self.save(
            model(
                [node("Add", ["x", "h"], ["next"]), node("MatMul", ["next", "w"], ["y"], name="product")],
                [tensor("x", [1, 4]), tensor("h", [1, 4])],
                [tensor("y", [1, 3]), tensor("next", [1, 4])],
                [constant("w", np.arange(12, dtype=np.float32).reshape(4, 3))],
            )
        )
        x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
        np.savez(self.path("x.npz"), x=x)
        self.apus("distil", "--teacher", "model.onnx", "-o", "t.npz", "--inputs", "x.npz", "--feed", "next=h")
        sums = np.cumsum(x, axis=0)
        np.testing.assert_allclose(np.load(self.path("t.npz"))["next"], sums, atol=1e-5)

    def test_memory_is_bounded(self) -> None:
        for command in (
            ["prune", "model.onnx", "-o", "no.onnx", "--magnitude", 0.5],
            ["cluster", "model.onnx", "-o", "no.onnx", "--codebook", 4, "--data", "images.npz"],
            ["distil", "--teacher", "model.onnx", "--inputs", "images.npz", "-o", "no.onnx.npz"],
        ):
            with self.subTest(command):
                self.assertIn(b"--memory", self.apus(*command, "--memory", "6K", status=1).stderr)
                self.apus(*command, "--memory", "64M")
        self.path("no.onnx").unlink()

    def test_compiled_models_are_compared_as_far_as_they_can(self) -> None:
        self.apus("compile", "model.onnx", "-o", "model.apus")
        self.save(network(seed=5), "student.onnx")
        done = self.apus("distil", "--teacher", "model.apus", "--student", "student.onnx", "--inputs", "images.npz")
        self.assertIn(b"compiled", done.stderr)

    def test_distil_refusals(self) -> None:
        distil = ["distil", "--teacher", "model.onnx", "--inputs"]
        np.savez(self.path("wrong.npz"), u=self.images, v=self.images)
        np.savez(self.path("shape.npz"), x=self.images[:, :2])
        np.savez(self.path("empty.npz"), x=self.images[:0])
        for arguments, status in [
            (["images.npz"], 2),
            (["images.npz", "-o", "no.npz", "--temperature", 0], 2),
            (["images.npz", "-o", "no.npz", "--hidden", "nothing"], 1),
            (["images.npz", "-o", "no.npz", "--feed", "nothing=x"], 1),
            (["images.npz", "-o", "no.npz", "--memory", "none"], 2),
            (["wrong.npz", "-o", "no.npz"], 1),
            (["shape.npz", "-o", "no.npz"], 1),
            (["empty.npz", "-o", "no.npz"], 1),
            (["missing.npz", "-o", "no.npz"], 1),
        ]:
            with self.subTest(arguments):
                self.apus(*distil, *arguments, status=status)
                self.assertFalse(self.path("no.npz").exists())
