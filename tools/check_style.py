#!/usr/bin/env python3
"""The form of the sources: lines of at most 120 characters everywhere, what `swift format` asks of Swift
(.swift-format), and a test for every line of kernels.inc. A file counts as one check. Ends with the line
`N passed, N failed, N skipped`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDEST = 120
SUFFIXES = {".swift", ".c", ".h", ".inc", ".py", ".md", ".sh", ""}
# Generated, or of others.
LEFT_OUT = re.compile(r"^(Sources/COnnxProto/|docs/(operators|disagreements)\.md$|TestModels/|LICENSE$|\.)")


def sources() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    names = names or [
        str(path.relative_to(ROOT)) for top in ("Sources", "Tests", "tools", "docs") for path in (ROOT / top).rglob("*")
    ]
    return [name for name in names if Path(name).suffix in SUFFIXES and not LEFT_OUT.match(name)]


def kernels_without_test() -> list[str]:
    """A line for each kernel that no test of the kernels names, and for each function without a reference there."""
    table = "Sources/CApusKernels/include/kernels.inc"
    tests = "".join(path.read_text() for path in sorted((ROOT / "Tests/CApusKernelsTests").glob("*.swift")))
    found, checked = [], []
    for number, line in enumerate((ROOT / table).read_text().splitlines(), 1):
        kernel = re.match(r"APUS_KERNEL\(\w+, (\w+),", line)
        function = re.match(r"APUS_UNARY_F32\((\w+),", line)
        named = rf"\b{kernel[1]}\b" if kernel else rf'"{function[1]}":' if function else ""
        checked += [line] if named else []
        if named and not re.search(named, tests):
            found.append(f"{table}:{number}: no test names it: {line}")
    if len(checked) < len(re.findall(r"^APUS_(?:KERNEL|UNARY_F32)\(", (ROOT / table).read_text(), re.MULTILINE)):
        found.append(f"{table}: there are lines of another form than this check knows")
    return found


def main() -> int:
    problems: dict[str, list[str]] = defaultdict(list)
    names = [name for name in sources() if (ROOT / name).is_file() and not (ROOT / name).is_symlink()]
    for name in names:
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            # Addresses and rows of tables cannot be broken.
            if len(line) > WIDEST and "http" not in line and not line.startswith("|"):
                problems[name].append(f"{name}:{number}: {len(line)} characters; at most {WIDEST}")
    if untested := kernels_without_test():
        problems["Sources/CApusKernels/include/kernels.inc"] += untested
    skipped = 0
    if shutil.which("swift"):
        linted = subprocess.run(
            ["swift", "format", "lint", "--recursive", "Package.swift", "Sources", "Tests", "tools"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        for line in linted.stderr.splitlines():
            if found := re.match(r"(.+?):\d+:\d+: (?:warning|error): ", line):
                name = found[1].removeprefix(f"{ROOT}/")
                problems[name].append(line.removeprefix(f"{ROOT}/"))
    else:
        print("there is no `swift format` here")
        skipped = 1
    for lines in problems.values():
        print("\n".join(lines))
    print(f"{len(names) - len(problems)} passed, {len(problems)} failed, {skipped} skipped")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
