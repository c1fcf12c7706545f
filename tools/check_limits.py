#!/usr/bin/env python3
"""Small models that ask for much: each must end in an error or a result, within the memory and the time that it may
have.

    PYTHONPATH=tools/python python tools/check_limits.py

Every case runs in a process of its own, with and without passes, under a limit on address space. The last line is
`N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
RUN_MEMORY = 1 << 30
ADDRESS_SPACE = 8 << 30
# Seconds that a case may take.
PATIENCE = 20

Model = tuple[onnx.ModelProto, dict[str, Any]]
CASES: dict[str, tuple[str, float, Callable[[], Model]]] = {}
SCENES: dict[str, Callable[[Path], None]] = {}


def case(expected: str, seconds: float = PATIENCE):
    """Registers a model that must end in an error that has `expected` in it, "" for a result, within some seconds."""

    def register(function: Callable[[], Model]) -> Callable[[], Model]:
        CASES[function.__name__] = (expected, seconds, function)
        return function

    return register


def scene(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """Registers a test that asserts for itself, in a folder of its own."""
    SCENES[function.__name__] = function
    return function


def value(name: str, kind: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def array(name: str, content: Any, dtype: Any = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.asarray(content, dtype), name)


def model(
    nodes: list, inputs: list, outputs: list[str], initializers: list = (), functions: list = ()
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "limits", inputs, [onnx.ValueInfoProto(name=o) for o in outputs], list(initializers)
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def loop(
    body_nodes: list,
    carried: onnx.ValueInfoProto,
    result: str,
    start: str,
    inputs: list,
    initializers: list = (),
    before: list = (),
) -> onnx.ModelProto:
    """A loop without an end that carries one value."""
    after = onnx.ValueInfoProto()
    after.CopyFrom(carried)
    after.name = result
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), *body_nodes],
        "body",
        [value("trip", INT64, []), value("go", BOOL, []), carried],
        [value("go_on", BOOL, []), after],
    )
    nodes = [*before, helper.make_node("Loop", ["", "yes", start], ["y"], body=body)]
    return model(nodes, inputs, ["y"], [array("yes", True, np.bool_), *initializers])


node = helper.make_node
words = np.array(["abcdefgh"], object)

# --- Memory of a run
# ---------------------------------------------------------------------------------------------------


@case("maximumRunMemory")
def strings_that_double() -> Model:
    nodes = [node("StringConcat", [f"s{k}", f"s{k}"], [f"s{k + 1}"]) for k in range(40)]
    return model(nodes, [value("s0", STRING, [1])], ["s40"]), {"s0": words}


@case("maximumRunMemory")
def strings_that_double_in_a_loop() -> Model:
    body = [node("StringConcat", ["s", "s"], ["t"])]
    return loop(body, value("s", STRING), "t", "x", [value("x", STRING)]), {"x": words}


@case("maximumRunMemory")
def strings_that_expand() -> Model:
    return model([node("Expand", ["x", "n"], ["y"])], [value("x", STRING), value("n", INT64)], ["y"]), {
        "x": words,
        "n": np.array([2**31]),
    }


@case("maximumRunMemory")
def tensors_that_grow_in_a_loop() -> Model:
    body = [node("Concat", ["v", "v"], ["w"], axis=0)]
    return loop(body, value("v"), "w", "x", [value("x")]), {"x": np.ones(1, np.float32)}


@case("maximumRunMemory")
def sequence_that_grows_in_a_loop() -> Model:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    body = [node("Add", ["x", "x"], ["z"]), node("SequenceInsert", ["q", "z"], ["r"])]
    made = loop(
        body,
        helper.make_value_info("q", kind),
        "r",
        "e",
        [value("x")],
        before=[node("SequenceEmpty", [], ["e"], dtype=FLOAT)],
    )
    return made, {"x": np.ones(1 << 20, np.float32)}


@case("maximumRunMemory")
def outputs_whose_sizes_depend_on_data() -> Model:
    """Twelve results of 200 MB, each within the limit, each of a region of its own."""
    nodes = []
    for k in range(12):
        nodes += [
            node("NonZero", [f"x{k}"], [f"p{k}"]),
            node("ReduceMax", [f"p{k}"], [f"m{k}"], keepdims=0),
            node("Mul", [f"m{k}", "size"], [f"l{k}"]),
            node("Reshape", [f"l{k}", "one"], [f"s{k}"]),
            node("Expand", ["v", f"s{k}"], [f"y{k}"]),
            node("Slice", [f"y{k}", "from", "to"], [f"x{k + 1}"]),
        ]
    constants = [
        array("size", 50 << 20),
        array("one", [1]),
        array("from", [0]),
        array("to", [2]),
        array("v", [1.0], np.float32),
    ]
    return model(nodes, [value("x0")], [f"y{k}" for k in range(12)], constants), {"x0": np.ones(2, np.float32)}


# --- Loading
# -----------------------------------------------------------------------------------------------------------


@case("limit")
def constants_that_double() -> Model:
    nodes = [node("Concat", [f"w{k}"] * 2, [f"w{k + 1}"], axis=0) for k in range(40)]
    return model(
        [*nodes, node("Add", ["x", "w40"], ["y"])], [value("x", FLOAT, [1])], ["y"], [array("w0", [1.0], np.float32)]
    ), {"x": np.ones(1, np.float32)}


@case("")
def constants_of_one_megabyte() -> Model:
    nodes = [node("ConstantOfShape", ["s"], [f"c{k}"]) for k in range(1000)]
    nodes += [node("Add", [f"a{k}" if k else "x", f"c{k}"], [f"a{k + 1}"]) for k in range(1000)]
    return model(nodes, [value("x", FLOAT, [1])], ["a1000"], [array("s", [1 << 18])]), {"x": np.ones(1, np.float32)}


@case("")
def extents_that_square() -> Model:
    nodes = [node("Reshape", ["x", "all"], ["f0"])]
    for k in range(26):
        nodes += [
            node("Unsqueeze", [f"f{k}", "zero"], [f"r{k}"]),
            node("Unsqueeze", [f"f{k}", "one"], [f"c{k}"]),
            node("Mul", [f"r{k}", f"c{k}"], [f"p{k}"]),
            node("Reshape", [f"p{k}", "all"], [f"f{k + 1}"]),
        ]
    return model(
        nodes, [value("x", FLOAT, ["n", "m"])], ["f26"], [array("all", [-1]), array("zero", [0]), array("one", [1])]
    ), {"x": np.ones((1, 1), np.float32)}


def calls(count: int, last: list) -> onnx.ModelProto:
    """Functions of which each calls the next one twice."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    functions = []
    for k in range(count):
        body = [node(f"f{k + 1}", ["a"], ["t"], domain="local"), node(f"f{k + 1}", ["t"], ["b"], domain="local")]
        functions.append(helper.make_function("local", f"f{k}", ["a"], ["b"], body, opsets))
    functions.append(helper.make_function("local", f"f{count}", ["a"], ["b"] if last else ["a"], last, opsets))
    return model([node("f0", ["x"], ["y"], domain="local")], [value("x")], ["y"], functions=functions)


@case("maximumNodes", seconds=2)
def functions_that_multiply() -> Model:
    return calls(40, [node("Identity", ["a"], ["b"])]), {}


@case("maximumNodes", seconds=2)
def empty_functions_that_multiply() -> Model:
    return calls(22, []), {}


@scene
def constants_beyond_the_address_space(folder: Path) -> None:
    """Nine thousand constants of a megabyte, each of which may be folded."""
    import apus

    count = ADDRESS_SPACE // (1 << 20) + 1000
    nodes = [node("ConstantOfShape", ["s"], [f"c{k}"]) for k in range(count)]
    nodes += [node("Add", [f"a{k}" if k else "x", f"c{k}"], [f"a{k + 1}"]) for k in range(count)]
    made = model(nodes, [value("x", FLOAT, [1])], [f"a{count}"], [array("s", [1 << 18])])
    found = apus.InferenceSession(made.SerializeToString(), threads=2).run(None, {"x": np.ones(1, np.float32)})[0]
    assert found.shape == (1 << 18,) and (found == 1).all()


def nested(depth: int) -> onnx.ModelProto:
    inner = helper.make_graph([node("Identity", ["x"], ["r"])], "g", [], [onnx.ValueInfoProto(name="r")])
    for k in range(depth):
        other = helper.make_graph([node("Identity", ["x"], ["z"])], "e", [], [onnx.ValueInfoProto(name="z")])
        choice = node("If", ["c"], [f"r{k}"], then_branch=inner, else_branch=other)
        inner = helper.make_graph([choice], "g", [], [onnx.ValueInfoProto(name=f"r{k}")])
    return model(list(inner.node), [value("c", BOOL, []), value("x", FLOAT, [2])], [inner.output[0].name])


@scene
def nesting_on_a_small_stack(folder: Path) -> None:
    """Graphs thirty deep, loaded and run by a thread with 128 KB of stack."""
    import apus

    outcome: list[Any] = []

    def work() -> None:
        session = apus.InferenceSession(nested(30).SerializeToString())
        outcome.append(session.run(None, {"c": np.array(True), "x": np.array([1, 2], np.float32)})[0].tolist())

    threading.stack_size(128 << 10)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == [[1, 2]], outcome


# --- Files that change
# -------------------------------------------------------------------------------------------------


def with_weights(folder: Path, external: bool) -> tuple[Path, np.ndarray]:
    """A product with a constant, which is packed, and a constant that is read as it is; both large."""
    weights = np.random.default_rng(0).standard_normal((256, 512)).astype(np.float32)
    table = np.arange(1 << 16, dtype=np.float32).reshape(-1, 1)
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Gather", ["t", "i"], ["g"]), node("Add", ["p", "g"], ["y"])]
    inputs = [value("x", FLOAT, ["n", 256]), value("i", INT64, [1])]
    made = model(nodes, inputs, ["y"], [array("w", weights, np.float32), array("t", table, np.float32)])
    path = folder / "weights.onnx"
    onnx.save(made, str(path), save_as_external_data=external, location="weights.bin", size_threshold=1024)
    x = np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)
    return path, x @ weights + table[7]


def run_weights(session: Any) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)
    return session.run(None, {"x": x, "i": np.array([7])})[0]


def change_files(folder: Path, external: bool, change: Callable[[Path], None]) -> None:
    import apus

    path, expected = with_weights(folder, external)
    session = apus.InferenceSession(str(path))
    before = run_weights(session)
    assert np.allclose(before, expected, atol=1e-3)
    change(folder / "weights.bin" if external else path)
    assert np.array_equal(run_weights(session), before), "the results have changed"


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def overwrite(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.write(b"\x7f" * size)


@scene
def truncated_after_loading(folder: Path) -> None:
    change_files(folder, False, truncate)


@scene
def overwritten_after_loading(folder: Path) -> None:
    change_files(folder, False, overwrite)


@scene
def side_file_truncated_after_loading(folder: Path) -> None:
    change_files(folder, True, truncate)


@scene
def side_file_overwritten_after_loading(folder: Path) -> None:
    change_files(folder, True, overwrite)


@scene
def files_that_change_while_they_are_read(folder: Path) -> None:
    """Another thread makes the file short and whole again: loading succeeds or is an error, never the end."""
    import apus

    path, expected = with_weights(folder, True)
    side = folder / "weights.bin"
    content = side.read_bytes()
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            os.truncate(side, 1000)
            with open(side, "r+b") as file:
                file.write(content)

    thread = threading.Thread(target=change)
    thread.start()
    outcomes = set()
    for _ in range(60):
        try:
            outcomes.add(np.allclose(run_weights(apus.InferenceSession(str(path))), expected, atol=1e-3))
        except apus.Error:
            outcomes.add("error")
    ended.set()
    thread.join()
    assert False not in outcomes, "a model was loaded from a file that changed"


@scene
def sparse_side_file(folder: Path) -> None:
    """A terabyte of which one element is asked for: an error that names the limit."""
    import apus

    # The limit that the library sets itself must hold, not that of the address space.
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with open(folder / "huge.bin", "wb") as file:
        file.truncate(1 << 40)
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1 << 38], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="huge.bin")
    path = folder / "huge.onnx"
    onnx.save(model([node("Gather", ["w", "i"], ["y"])], [value("i", INT64, [1])], ["y"], [tensor]), str(path))
    try:
        apus.InferenceSession(str(path))
    except apus.Error as error:
        assert ("maximumLoadMemory" if most == resource.RLIM_INFINITY else "memory") in str(error), error
    else:
        raise AssertionError("a terabyte was loaded")


# --- The driver
# --------------------------------------------------------------------------------------------------------


def try_case(name: str, optimize: bool) -> str:
    """What is wrong; "" if nothing is."""
    import apus

    expected, seconds, make = CASES[name]
    made, feeds = make()
    started = time.monotonic()
    try:
        session = apus.InferenceSession(
            made.SerializeToString(), maximum_run_memory=RUN_MEMORY, threads=2, optimize=optimize
        )
        session.run(None, feeds, timeout=PATIENCE / 2)
    except apus.Error as error:
        if not expected or expected not in str(error):
            return f"another error: {error}"
        taken = time.monotonic() - started
        return "" if taken < seconds else f"it took {taken:.1f} s"
    return "a result" if expected else ""


def in_child(work: Callable[[], str]) -> str:
    """What is wrong with `work`, which runs in a process with limits."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.getrlimit(resource.RLIMIT_AS)[1]))
        signal.alarm(PATIENCE)
        try:
            text = work()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "it took too long" if os.WTERMSIG(status) == signal.SIGALRM else f"ended by signal {os.WTERMSIG(status)}"
    return text


def try_scene(name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        SCENES[name](Path(folder))
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run the cases that have this in their names")
    arguments = parser.parse_args()
    tests: list[tuple[str, Callable[[], str]]] = []
    for name in CASES:
        for optimize in (True, False):
            tests.append(
                (
                    f"{name} ({'optimized' if optimize else 'plain'})",
                    lambda name=name, optimize=optimize: try_case(name, optimize),
                )
            )
    tests += [(name, lambda name=name: try_scene(name)) for name in SCENES]
    failed = passed = 0
    for name, work in tests:
        if arguments.only not in name:
            continue
        started = time.monotonic()
        if problem := in_child(work):
            failed += 1
            print(f"{name}: {problem[:400]} [{time.monotonic() - started:.1f} s]", flush=True)
        else:
            passed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
