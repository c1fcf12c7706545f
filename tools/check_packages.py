#!/usr/bin/env python3
"""Checks what others install: the layout of tools/install, pkg-config, the examples, and that libapus brings no
thread but its own. Ends with the line `N passed, N failed, N skipped`; the exit status is 0 only if nothing failed.
Run it with the python that `tools/python-env test` prints; `swift build -c release` of the products apus and apus-c
must have been done.

With --full it also builds the packages, which takes minutes, and tries each where nothing else is: the wheel in a fresh
environment, the tarball and the Debian package in a root folder that has the C and C++ libraries alone, and the
package in Swift, with its examples, without image libraries."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from release import binaries, elf, manual, notices

ROOT = binaries.ROOT
MODEL = ROOT / "TestModels/digits.onnx"
PICTURE = (ROOT / "docs/examples/seven.txt").read_text()
# Counts the threads of a process that loads the library and multiplies matrices of float64, in a Python without
# NumPy, whose own threads would be counted.
COUNT_THREADS = """
import ctypes, os, sys
def threads(): return len(os.listdir("/proc/self/task"))
before = threads()
library = ctypes.CDLL(sys.argv[1])
loaded = threads()
pointer, texts = ctypes.c_void_p, lambda *names: (ctypes.c_char_p * len(names))(*names)
library.apus_options_create.restype = pointer
for name in ("options_set_threads", "model_load_file", "tensor_create_borrowed", "model_run"):
    getattr(library, "apus_" + name).restype = pointer
options, model, value, output = pointer(library.apus_options_create()), pointer(), pointer(), pointer()
assert not library.apus_options_set_threads(options, 2)
assert not library.apus_model_load_file(sys.argv[2].encode(), options, ctypes.byref(model))
count = 256
elements, shape = (ctypes.c_double * (count * count))(), (ctypes.c_int64 * 2)(count, count)
assert not library.apus_tensor_create_borrowed(
    11, shape, ctypes.c_size_t(2), elements, ctypes.c_size_t(8 * count * count), None, None, ctypes.byref(value))
assert not library.apus_model_run(
    model, texts(b"x"), ctypes.byref(value), ctypes.c_size_t(1), texts(b"y"), ctypes.c_size_t(1), None,
    ctypes.byref(output))
print(loaded - before, threads() - before)
"""


class Skipped(Exception):
    """The check needs what this machine does not have."""


def output(*command: str | Path, **options: object) -> str:
    """The standard output of a command that must succeed."""
    words = list(map(str, command))
    finished = subprocess.run(words, capture_output=True, text=True, timeout=1800, **options)  # type: ignore
    assert finished.returncode == 0, f"{' '.join(words)}\n{finished.stdout}{finished.stderr}"
    return finished.stdout


def expect_seven(text: str) -> None:
    assert text.startswith("7 "), f"the picture of a seven gave {text!r}"


class Checks:
    """The checks of one pair of binaries. Each method whose name begins with `check_` is one."""

    def __init__(self, built: binaries.Binaries, place: Path) -> None:
        self.built = built
        self.place = place
        self.prefix = place / "prefix"
        output(sys.executable, ROOT / "tools/install", "--binaries", built.program.parent, self.prefix)

    def check_installed_files(self) -> None:
        version = binaries.version()
        expected = ["bin/apus", "include/apus.h", f"lib/libapus.so.{version}", "lib/pkgconfig/apus.pc"]
        expected += ["share/man/man1/apus.1", "share/man/man1/apus-run.1"]
        for name in expected + ["share/doc/apus/NOTICE", "share/doc/apus/LICENSE"]:
            assert (self.prefix / name).is_file(), f"{name} was not installed"
        for name in (binaries.SONAME, "libapus.so"):
            assert (self.prefix / "lib" / name).resolve().name == f"libapus.so.{version}", f"{name} leads elsewhere"
        assert not list(self.prefix.rglob(".*")), "temporary files were left"
        output("bash", "-n", self.prefix / "share/bash-completion/completions/apus")

    def check_manual_pages(self) -> None:
        description = output(self.built.program, "--experimental-dump-help").encode()
        for name, text in manual.pages(description, "0").items():
            lines = text.splitlines()
            assert lines[0].startswith(".TH ") and ".SH SYNOPSIS" in lines, f"{name} is no manual page"
            requests = {line.split()[0] for line in lines if line.startswith((".", "'"))}
            unknown = requests - {".TH", ".SH", ".B", ".BR", ".TP", ".nf", ".fi"}
            assert not unknown, f"{name}: text that troff takes for requests: {unknown}"

    def check_example_in_c(self) -> None:
        """Against an installation that was moved after it was made."""
        moved = self.place / "moved"
        shutil.copytree(self.prefix, moved, symlinks=True)
        environment = os.environ | {"PKG_CONFIG_PATH": str(moved / "lib/pkgconfig")}
        environment["LD_LIBRARY_PATH"] = str(moved / "lib")
        assert output("pkg-config", "--modversion", "apus", env=environment).strip() == binaries.version()
        flags = output("pkg-config", "--cflags", "--libs", "apus", env=environment).split()
        compiler = shutil.which("cc") or "clang"
        program = self.place / "digits"
        warnings = ["-Wall", "-Wextra", "-Werror"]
        output(compiler, *warnings, ROOT / "docs/examples/c/digits.c", *flags, "-o", program, env=environment)
        expect_seven(output(program, MODEL, env=environment, input=PICTURE))

    def check_example_in_python(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "tools/python"), "APUS_LIBRARY": str(self.built.library)}
        example = ROOT / "docs/examples/python/digits.py"
        expect_seven(output(sys.executable, example, MODEL, env=environment, input=PICTURE))

    def check_threads(self) -> None:
        """Loading starts no thread, and running in two only the worker beside the caller and one that watches."""
        import numpy
        from onnx import TensorProto, helper, save

        shape = [256, 256]
        value = {name: helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape) for name in ("x", "y")}
        weights = helper.make_tensor("w", TensorProto.DOUBLE, shape, numpy.ones(shape).ravel())
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        graph = helper.make_graph([node], "product", [value["x"]], [value["y"]], [weights])
        path = self.place / "product.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        text = output(sys.executable, "-I", "-c", COUNT_THREADS, self.built.library, path)
        loaded, ran = map(int, text.split())
        assert loaded == 0, f"loading the library started {loaded} threads"
        assert 1 <= ran <= 2, f"a run in two threads left {ran} beside the caller; expected 1 or 2"


class SourceChecks:
    """What needs no binaries."""

    def check_versions_agree(self) -> None:
        version = binaries.version()
        for name, pattern in [
            ("Sources/Apus/Version.swift", r'text = "([0-9.]+)"'),
            ("docs/CHANGELOG.md", r"(?m)^## ([0-9.]+)"),
            ("README.md", r'from: "([0-9.]+)"'),
        ]:
            found = re.search(pattern, (ROOT / name).read_text())
            assert found and found[1] == version, f"{name} says {found and found[1]}; the Python package says {version}"

    def check_packages_of_the_readme(self) -> None:
        wanted = set(re.findall(r"\b(lib[\w-]+-dev|pkg-config)\b", (ROOT / "tools/setup").read_text()))
        found = set(re.findall(r"\b(lib[\w-]+-dev|pkg-config)\b", (ROOT / "README.md").read_text()))
        assert wanted == found, f"tools/setup installs {sorted(wanted)}; README.md names {sorted(found)}"

    def check_licences(self) -> None:
        names = {name for names in binaries.ARCHIVES.values() for name in names}
        difference = names ^ set(notices.COMPONENTS)
        assert not difference, f"archives without a licence, or the reverse: {difference}"
        assert not [what for what, licence in notices.COMPONENTS.values() if "GPL" in licence]
        assert "NOTICE" in notices.texts()

    def check_examples_in_swift(self) -> None:
        """That they compile; --full builds and runs them as a package."""
        modules = [folder.parent for folder in (ROOT / "Sources").glob("*/**/module.modulemap")]
        options = [option for folder in [ROOT / ".build/release/Modules", *modules] for option in ("-I", folder)]
        for generated in sorted((ROOT / ".build/release").glob("*.build/module.modulemap")):
            options += ["-Xcc", f"-fmodule-map-file={generated}"]
        for flag in output("pkg-config", "--cflags", *binaries.ARCHIVES).split():
            options += ["-Xcc", flag]
        for example in sorted((ROOT / "docs/examples/swift/Sources").glob("*/main.swift")):
            output("swiftc", "-typecheck", "-swift-version", "6", *options, example)


class PackageChecks:
    """The packages, each where nothing but it is."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.built = binaries.build()
        self.dist = place / "dist"

    def check_no_code_of_jbig(self) -> None:
        text = self.built.library.read_bytes() + self.built.program.read_bytes()
        assert b"JBIG-KIT" not in text and b"jbg_" not in text, "there is code of libjbig, which is under the GPL"

    def check_wheel(self) -> None:
        output(sys.executable, ROOT / "tools/build-wheel", "--output", self.dist, "--check")

    def check_tarball_and_debian_package(self) -> None:
        output(sys.executable, ROOT / "tools/build-packages", "--output", self.dist)
        first = {path.name: path.read_bytes() for path in self.dist.glob("apus*[zb]")}
        output(sys.executable, ROOT / "tools/build-packages", "--output", self.dist)
        for name, content in first.items():
            assert (self.dist / name).read_bytes() == content, f"{name} came out different the second time"
        with tarfile.open(next(self.dist.glob("*.tar.gz"))) as tar:
            tar.extractall(self.place / "tar", filter="data")
        package = next(self.dist.glob("*.deb"))
        output("dpkg-deb", "--extract", package, self.place / "deb")
        for program in (next((self.place / "tar").glob("*/bin/apus")), self.place / "deb/usr/bin/apus"):
            self.run_alone(program)
        assert (self.place / "deb/usr/share/doc/apus/copyright").exists()

    def run_alone(self, program: Path) -> None:
        """Runs the program in a root folder with the libraries of C and C++ and nothing else."""
        if os.geteuid() != 0:
            raise Skipped("chroot needs root")
        root = Path(tempfile.mkdtemp(dir=self.place))
        for line in output("ldd", program).splitlines():
            path = re.search(r"(/\S+) \(", line)
            if path:
                assert elf.SYSTEM.match(Path(path[1]).name), f"{program} needs {path[1]}"
                target = root / path[1].lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path[1], target)
        shutil.copy(program, root / "apus")
        for name in ("digits.onnx", "digit-7.png", "digits.labels.txt"):
            shutil.copy(ROOT / "TestModels" / name, root)
        command = ["/apus", "run", "/digits.onnx", "--image", "input=/digit-7.png", "--top", "1"]
        text = output("chroot", root, *command, env={})
        assert "7" in text, f"{program} alone said {text!r}"

    def check_package_in_swift_without_image_libraries(self) -> None:
        folder, scratch = ROOT / "docs/examples/swift", ROOT / ".build/examples"
        build = ["swift", "build", "--package-path", folder, "--scratch-path", scratch, "-c", "release"]
        output(*build)
        expect_seven(output(scratch / "release/Classify", MODEL, input=PICTURE))
        assert "ran 8 requests" in output(scratch / "release/Embed", MODEL)
        pictures = re.compile("lib(png|tiff|webp|jpeg|openjp2)")
        foreign = [name for name in elf.needed(scratch / "release/Classify") if pictures.match(name)]
        assert not foreign, f"without traits the package still needs {foreign}"


def run_all(subject: object, counts: dict[str, int]) -> None:
    """Runs every check of an object and prints what failed."""
    for name in [name for name in dir(subject) if name.startswith("check_")]:
        check: Callable[[], None] = getattr(subject, name)
        title = f"{type(subject).__name__}.{name.removeprefix('check_')}"
        try:
            check()
            counts["passed"] += 1
        except Skipped as reason:
            counts["skipped"] += 1
            print(f"skipped {title}: {reason}")
        except Exception as error:
            counts["failed"] += 1
            print(f"FAILED {title}: {error if isinstance(error, AssertionError) else traceback.format_exc()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also build every package and try it")
    arguments = parser.parse_args()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory(prefix="apus-packages-") as place:
        run_all(SourceChecks(), counts)
        run_all(Checks(binaries.in_folder(ROOT / ".build/release"), Path(place) / "checkout"), counts)
        if arguments.full:
            packages = PackageChecks(Path(place) / "packages")
            (Path(place) / "packages").mkdir()
            run_all(Checks(packages.built, Path(place) / "release"), counts)
            run_all(packages, counts)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 0 if counts["failed"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
