"""Files that the program writes: whole or not at all, over whatever stands there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import program
from .program import Case, constant, identity, model, tensor


def weights(count: int = 4096) -> onnx.ModelProto:
    """A model whose weights are read from the mapped file while it is saved."""
    values = np.arange(count, dtype=np.float32)
    return model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        [tensor("x", [count])],
        [tensor("y", [count])],
        [constant("w", values)],
    )


def content(path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load(path).graph.initializer[0])


class OverItself(Case):
    def test_optimized_model_replaces_its_source(self) -> None:
        made = weights()
        self.save(made)
        self.apus("optimize", "model.onnx", "--output", "model.onnx")
        np.testing.assert_array_equal(
            content(self.path("model.onnx")), numpy_helper.to_array(made.graph.initializer[0])
        )
        self.assertEqual(self.leftovers(), [])

    def test_optimized_model_replaces_what_a_link_names(self) -> None:
        self.save(weights(), "real.onnx")
        os.symlink("real.onnx", self.path("link.onnx"))
        self.apus("optimize", "real.onnx", "-o", "link.onnx")
        self.assertTrue(self.path("link.onnx").is_symlink())
        self.assertEqual(content(self.path("real.onnx")).size, 4096)

    def save_in_two_files(self) -> None:
        onnx.save(
            weights(),
            self.path("model.onnx"),
            save_as_external_data=True,
            location="model.onnx.data",
            size_threshold=0,
        )

    def test_optimized_model_replaces_its_source_beside_a_side_file(self) -> None:
        self.save_in_two_files()
        before = self.path("model.onnx.data").read_bytes()
        result = self.apus("optimize", "model.onnx", "--output", "model.onnx.data", status=1)
        self.assertIn(b"the file would be lost", result.stderr)
        self.assertEqual(self.path("model.onnx.data").read_bytes(), before)
        self.apus("optimize", "model.onnx", "--output", "model.onnx")
        np.testing.assert_array_equal(content(self.path("model.onnx")), np.arange(4096, dtype=np.float32))

    def test_compiled_model_does_not_replace_what_it_is_made_of(self) -> None:
        """It could not be turned back."""
        self.save_in_two_files()
        os.symlink("model.onnx.data", self.path("link.data"))
        before = {name: self.path(name).read_bytes() for name in ("model.onnx", "model.onnx.data")}
        for target in ("model.onnx", "model.onnx.data", "link.data"):
            for way in ((), ("--map",)):
                result = self.apus("compile", "model.onnx", *way, "-o", target, status=1)
                self.assertIn(b"the file would be lost", result.stderr)
        for name, content_before in before.items():
            self.assertEqual(self.path(name).read_bytes(), content_before)

    def test_outputs_replace_mapped_inputs(self) -> None:
        values = np.arange(1 << 20, dtype=np.float32)
        made = model(
            [helper.make_node("Neg", ["x"], ["x2"]), helper.make_node("Identity", ["x"], ["x3"])],
            [tensor("x", [values.size])],
            [tensor("x2"), tensor("x3")],
        )
        self.save(made)
        self.path("out").mkdir()
        for target in ("x2", "x3"):
            self.array(f"out/{target}.npy", values)
            self.apus("run", "model.onnx", "--input", f"x=out/{target}.npy", "--output", "out")
            np.testing.assert_array_equal(np.load(self.path("out/x2.npy")), -values)
            np.testing.assert_array_equal(np.load(self.path("out/x3.npy")), values)
        self.array("x.npy", values)
        self.apus("run", "model.onnx", "--input", "x=x.npy", "--output", "x2=x.npy")
        np.testing.assert_array_equal(np.load(self.path("x.npy")), -values)


class Replacing(Case):
    def setUp(self) -> None:
        super().setUp()
        self.save(identity(shape=[4]))
        self.array("x.npy", np.arange(4, dtype=np.float32))
        self.run_to = lambda *output, **options: self.apus("run", "model.onnx", "-i", "x=x.npy", *output, **options)

    def test_permissions_stay(self) -> None:
        for mode in (0o600, 0o640, 0o755):
            self.write("y.npy", "old")
            self.path("y.npy").chmod(mode)
            self.run_to("--output", "y.npy")
            self.assertEqual(self.path("y.npy").stat().st_mode & 0o777, mode)

    def test_new_files_have_usual_permissions(self) -> None:
        self.run_to("--output", "y.npy")
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual(self.path("y.npy").stat().st_mode & 0o777, 0o666 & ~mask)

    def test_old_readers_keep_the_old_file(self) -> None:
        self.write("y.npy", "old")
        with open(self.path("y.npy")) as old:
            self.run_to("--output", "y.npy")
            self.assertEqual(old.read(), "old")

    def test_a_dangling_link_makes_its_target(self) -> None:
        self.path("there").mkdir()
        os.symlink("there/z.npy", self.path("y.npy"))
        self.run_to("--output", "y.npy")
        self.assertEqual(np.load(self.path("there/z.npy")).size, 4)

    def test_devices_and_pipes_are_written_directly(self) -> None:
        self.run_to("--output", "y=/dev/null", "--output", "/dev/null")
        self.assertTrue(self.run_to("--output", "/dev/stdout").stdout.startswith(b"\x93NUMPY"))
        with open(self.path("stdout"), "wb") as file:
            self.run_to("--output", "/dev/stdout", stdout=file)
        self.assertEqual(np.load(self.path("stdout")).size, 4)
        os.mkfifo(self.path("pipe.npy"))
        reader = subprocess.Popen(["cat", "pipe.npy"], cwd=self.folder, stdout=subprocess.PIPE)
        self.run_to("--output", "pipe.npy")
        self.assertTrue(reader.communicate()[0].startswith(b"\x93NUMPY"))
        self.run_to("--output", "/dev/full", status=1)

    def test_what_cannot_be_written(self) -> None:
        for target in (
            "no/such/y.npy",
            "x.npy/y.npy",
            "n" * 5000,
            "n" * 300 + ".npy",
            "/proc/nothing/y.npz",
            "folder.npz",
        ):
            self.path("folder.npz").mkdir(exist_ok=True)
            with self.subTest(target[:40]):
                self.run_to("--output", target, status=1)
        self.write("file", "old")
        self.run_to("--output", "file/", status=1)
        self.run_to("--output", "file", status=1)
        self.assertEqual(self.path("file").read_text(), "old")
        self.assertEqual(self.leftovers(), [])

    def test_a_full_disk_leaves_the_old_file(self) -> None:
        import resource

        self.write("y.npy", "old")
        self.apus(
            "run",
            self.save(identity(shape=[100000]), "big.onnx"),
            "--random",
            "--output",
            "y.npy",
            status=1,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        )
        self.assertEqual(self.path("y.npy").read_text(), "old")
        self.assertEqual(self.leftovers(), [])

    def test_an_interrupted_run_leaves_the_old_file(self) -> None:
        self.save(identity(shape=[20_000_000]), "big.onnx")
        self.write("y.json", "old")
        unnamed = getattr(os, "O_TMPFILE", 0)
        try:
            os.close(os.open(self.folder, os.O_WRONLY | unnamed))
            # What has no name cannot stay behind, whatever ends the process.
            numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGKILL)
        except OSError:
            numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            # A process may be through before the signal comes; then its file is whole.
            for _ in range(20):
                self.write("y.json", "old")
                process = subprocess.Popen(
                    [program.APUS, "run", "big.onnx", "--random", "--output", "y.json"],
                    cwd=self.folder,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # Whoever runs the tests in the background may ignore signals, which children inherit.
                    preexec_fn=lambda: signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None,
                )
                while process.poll() is None and not self.leftovers() and not self.has_unnamed_file(process.pid):
                    time.sleep(0.005)
                process.send_signal(number)
                if process.wait(60) != 0:
                    break
                self.assertGreater(self.path("y.json").stat().st_size, 20_000_000)
            self.assertEqual(process.returncode, -number)
            self.assertEqual(self.path("y.json").read_text(), "old")
            self.assertEqual(self.leftovers(), [])

    def has_unnamed_file(self, process: int) -> bool:
        links = []
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(os.readlink(link))
        return any(link.startswith(f"{self.folder}/") and link.endswith(" (deleted)") for link in links)


class Twice(Case):
    def test_two_values_of_one_file(self) -> None:
        self.save(identity(shape=[2]))
        for options in (
            ["--output", "y.npy", "--output", "./y.npy"],
            ["--output", "a.npz", "--save-inputs", "a.npz"],
            ["--output", "-", "--save-inputs", "-"],
        ):
            self.apus("run", "model.onnx", "--random", *options, status=1)
            self.assertEqual([p.name for p in self.folder.iterdir()], ["model.onnx"])

    def test_a_report_does_not_replace_a_model(self) -> None:
        self.save(identity(shape=[2]))
        before = self.path("model.onnx").read_bytes()
        self.apus("profile", "model.onnx", "--runs", 1, "--trace", "model.onnx", status=2)
        self.assertEqual(self.path("model.onnx").read_bytes(), before)


class Forms(Case):
    """--output and --save-inputs."""

    def setUp(self) -> None:
        super().setUp()
        nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Add", ["x", "x"], ["b"])]
        self.save(model(nodes, [tensor("x", [2, 2])], [tensor("a", [2, 2]), tensor("b", [2, 2])]))
        self.save(identity(shape=[2, 2]), "one.onnx")
        self.values = np.array([[1, 2], [3, 0.1]], np.float32)
        self.array("x.npy", self.values)

    def test_one_output_in_a_file(self) -> None:
        for name in ("y.npy", "y.pb", "y.json", "./y.npy", "Y.NPY"):
            self.apus("run", "one.onnx", "-i", "x.npy", "-o", name)
            self.assertTrue(self.path(name).is_file(), name)
        np.testing.assert_array_equal(np.load(self.path("y.npy")), self.values)
        proto = TensorProto.FromString(self.path("y.pb").read_bytes())
        self.assertEqual(proto.name, "y")
        np.testing.assert_array_equal(numpy_helper.to_array(proto), self.values)
        np.testing.assert_array_equal(np.array(json.loads(self.path("y.json").read_text()), np.float32), self.values)

    def test_standard_output(self) -> None:
        done = self.apus("run", "one.onnx", "-i", "x.npy", "-o", "-")
        self.write("z.npy", done.stdout)
        np.testing.assert_array_equal(np.load(self.path("z.npy")), self.values)
        again = self.apus("run", "one.onnx", "-i", "x=-", "-o", "-", input=done.stdout)
        self.assertEqual(again.stdout, done.stdout)
        self.apus("run", "one.onnx", "-i", "x.npy", "-o", "-", "--json", status=2)

    def test_several_outputs(self) -> None:
        self.apus("run", "model.onnx", "-i", "x.npy", "-o", "y.npy", status=1)
        self.assertFalse(self.path("y.npy").exists())
        self.apus(
            "run", "model.onnx", "-i", "x.npy", "-o", "b=b.json", "-o", "a=a.npy", "-o", "all.npz", "-o", "folder"
        )
        np.testing.assert_array_equal(np.load(self.path("a.npy")), -self.values)
        self.assertEqual(json.loads(self.path("b.json").read_text())[0], [2.0, 4.0])
        self.assertEqual(sorted(np.load(self.path("all.npz"))), ["a", "b"])
        self.assertEqual(sorted(p.name for p in self.path("folder").iterdir()), ["a.npy", "b.npy"])
        error = self.apus("run", "model.onnx", "-i", "x.npy", "-o", "c=c.npy", status=1).stderr.decode()
        self.assertIn("a, b", error)
        for mistyped in ("y.csv", "y.nyp", "y.v2"):
            self.apus("run", "one.onnx", "-i", "x.npy", "-o", mistyped, status=2)
            self.assertFalse(self.path(mistyped).exists())
        # A folder with a dot in its name is named as one, or is there.
        for name in ("y.v2/", "y.v2"):
            self.apus("run", "one.onnx", "-i", "x.npy", "-o", name)
        self.assertTrue(self.path("y.v2").is_dir())

    def test_saved_inputs_run_again(self) -> None:
        first = self.json(
            "run", "model.onnx", "--random", "--seed", 7, "--save-inputs", "in.npz", "--save-inputs", "in/"
        )
        again = self.json("run", "model.onnx", "-i", "in.npz")
        self.assertEqual([o["value"] for o in first["outputs"]], [o["value"] for o in again["outputs"]])
        np.testing.assert_array_equal(np.load(self.path("in/x.npy")), np.load(self.path("in.npz"))["x"])

    def test_names_become_files(self) -> None:
        names = ["a/b", "a_b", "a b", "a_b_", ".hidden", "..", "é" * 200, "e\u0301" * 300, "n" * 5000]
        self.save(
            model(
                [helper.make_node("Identity", ["x"], [n]) for n in names],
                [tensor("x", [2])],
                [tensor(n, [2]) for n in names],
            )
        )
        self.apus("run", "model.onnx", "--random", "-o", "out")
        self.assertEqual(len(list(self.path("out").glob("*.npy"))), len(names))
        self.apus("run", "model.onnx", "--random", "-o", "out.npz")
        self.assertEqual(len(zipfile.ZipFile(self.path("out.npz")).namelist()), len(names))

    def test_what_numpy_cannot_hold(self) -> None:
        self.save(identity(shape=[1] * 30000))
        for target in ("y.npy", "y.npz"):
            self.apus("run", "model.onnx", "--random", "-o", target, status=1)
        self.apus("run", "model.onnx", "--random", "-o", "y.pb")
        strings = ["a" * 200000] + [""] * 20000
        made = model(
            [],
            [],
            [tensor("w", [20001], TensorProto.STRING)],
            [helper.make_tensor("w", TensorProto.STRING, [20001], [s.encode() for s in strings])],
        )
        self.save(made)
        self.apus("run", "model.onnx", "-o", "w.npy", status=1)
        self.apus("run", "model.onnx", "-o", "w.json")
        self.assertEqual(json.loads(self.path("w.json").read_text()), strings)

    def test_everything_else_that_is_written(self) -> None:
        self.apus("graph", "model.onnx", "-o", "g.svg")
        self.apus("graph", "model.onnx", "-o", "g.dot")
        self.apus("profile", "model.onnx", "--runs", 1, "--trace", "t.json")
        self.assertTrue(json.loads(self.path("t.json").read_text())["traceEvents"])
        for command in (
            ["graph", "model.onnx", "-o", "no/g.svg"],
            ["profile", "model.onnx", "--runs", 1, "--trace", "no/t.json"],
            ["optimize", "model.onnx", "-o", "no/m.onnx"],
            ["optimize", "model.onnx", "-o", "/dev/full"],
        ):
            self.apus(*command, status=1)
        self.assertEqual(self.leftovers(), [])
