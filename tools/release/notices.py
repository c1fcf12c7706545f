"""The licences of everything that is in the binaries: this project, the Swift runtime, and the archives from Debian
packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .binaries import ARCHIVES, ROOT, archive_path

# What each archive is, and which of its licences is taken. The whole texts, which Debian collects for each source
# package, stand beside this list; parts of those packages that are under other licences (tools, tests, build scripts)
# are not in the binaries.
COMPONENTS = {
    "protobuf-c": ("protobuf-c", "BSD-2-Clause"),
    "jpeg": ("libjpeg-turbo", "IJG AND BSD-3-Clause AND Zlib"),
    "png16": ("libpng", "libpng-2.0"),
    "z": ("zlib", "Zlib"),
    "tiff": ("libtiff without its JBIG and LERC codecs", "libtiff"),
    "webp": ("libwebp", "BSD-3-Clause"),
    "deflate": ("libdeflate", "MIT"),
    "lzma": ("liblzma", "public domain"),
    "zstd": ("zstd", "BSD-3-Clause, of the two that it offers"),
    "openjp2": ("OpenJPEG", "BSD-2-Clause"),
}
# What only the program has, with the files `NAME-license.txt` beside this one.
PROGRAM_ONLY = [("ICU", "Unicode-3.0", "icu"), ("Yams with libyaml", "MIT", "yams")]
SPDX = " AND ".join(
    ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "IJG", "MIT", "Unicode-3.0", "Zlib", "libpng-2.0", "libtiff"]
)


def debian_package(file: Path) -> str:
    """The Debian package that a file belongs to."""
    # /lib is /usr/lib, and dpkg knows a file by one of both names.
    for name in (str(file), str(file).removeprefix("/usr")):
        found = subprocess.run(["dpkg-query", "--search", name], capture_output=True, text=True).stdout
        if found:
            return found.split(":")[0]
    sys.exit(f"no Debian package owns {file}, so that its licence is not known")


def swift_license() -> bytes:
    swift = Path(shutil.which("swift") or "/").resolve()
    for folder in swift.parents:
        for text in (folder / "share/swift/LICENSE.txt", folder / "LICENSE.txt"):
            if text.exists():
                return text.read_bytes()
    sys.exit("the licence of Swift is not beside the toolchain")


def texts() -> dict[str, bytes]:
    """The files, by name; `NOTICE` lists what is what."""
    names = sorted({name for names in ARCHIVES.values() for name in names})
    files = {"LICENSE": (ROOT / "LICENSE").read_bytes(), "swift.txt": swift_license()}
    lines = ["Apus is licensed under the Apache License, version 2.0: LICENSE.", ""]
    lines += ["Its binaries contain:", ""]
    lines += ["- the Swift runtime, Foundation and Dispatch: Apache-2.0 with the runtime library exception, swift.txt"]
    lines += ["- swift-argument-parser, in the program only: Apache-2.0 with the same exception, swift.txt"]
    for what, license_name, name in PROGRAM_ONLY:
        lines += [f"- {what}, in the program only: {license_name}, {name}.txt"]
        files[f"{name}.txt"] = (Path(__file__).parent / f"{name}-license.txt").read_bytes()
    for name in names:
        what, license_name = COMPONENTS[name]
        package = debian_package(archive_path(name))
        files[f"{package}.txt"] = Path(f"/usr/share/doc/{package}/copyright").read_bytes()
        lines.append(f"- {what}: {license_name}, {package}.txt")
    files["NOTICE"] = ("\n".join(lines) + "\n").encode()
    return files
