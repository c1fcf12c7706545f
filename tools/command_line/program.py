"""Runs the program in a folder of its own, on small models made here."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

APUS = "apus"
# No case may take more address space: a size that somebody asks for is refused, not tried.
SPACE = 8 << 30


def identity(type_: int = TensorProto.FLOAT, shape: Any = None) -> onnx.ModelProto:
    value = lambda name: helper.make_tensor_value_info(name, type_, shape)
    return model([helper.make_node("Identity", ["x"], ["y"])], [value("x")], [value("y")])


def model(
    nodes: list, inputs: list, outputs: list, initializers: list = (), metadata: dict[str, str] | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(made, metadata or {})
    return made


def tensor(name: str, shape: Any = None, type_: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type_, shape)


def constant(name: str, value: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


class Case(unittest.TestCase):
    """A test with a folder, in which the program runs."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="apus-command-line-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, content: bytes | str) -> str:
        self.path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def save(self, made: onnx.ModelProto, name: str = "model.onnx") -> str:
        return self.write(name, made.SerializeToString())

    def apus(self, *arguments: Any, status: int = 0, **options: Any) -> subprocess.CompletedProcess:
        """Runs the program; `status` is the exit status that it must have. An error begins with that word, unless
        `check_error` is false: a report may say what is wrong."""
        check_error = options.pop("check_error", True)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        if "stdout" not in options:
            options["stdout"] = subprocess.PIPE
        options.setdefault("preexec_fn", lambda: resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE)))
        done = subprocess.run(
            [APUS, *map(str, arguments)],
            stderr=subprocess.PIPE,
            cwd=self.folder,
            timeout=60,
            env=os.environ | {"SWIFT_BACKTRACE": "enable=no"} | options.pop("environment", {}),
            **options,
        )
        error = done.stderr.decode()
        self.assertEqual(done.returncode, status, f"{arguments}: {error[:500]}")
        if status and check_error:
            self.assertRegex(error, r"(?m)^error: ", f"{arguments}")
            self.assertNotRegex(error, r"Error Domain|NSCocoa|Error\(|Fatal error|[\x00-\x09\x0b-\x1f]", f"{arguments}")
        return done

    def json(self, *arguments: Any, status: int = 0) -> Any:
        """What the program prints with --json, which must be JSON in the strict sense."""
        done = self.apus(*arguments, "--json", status=status, check_error=arguments[0] != "check")

        def refuse(word: str) -> None:
            raise ValueError(f"{word} is no JSON")

        report = json.loads(done.stdout, parse_constant=refuse)
        self.assertEqual(report["version"], 1)
        return report

    def array(self, name: str, value: Any) -> str:
        np.save(self.path(name), np.asarray(value))
        return name

    def leftovers(self) -> list[str]:
        return [str(p) for p in self.folder.rglob("*") if p.name.startswith(".apus-")]
