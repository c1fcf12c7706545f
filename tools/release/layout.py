"""Where the files of an installation go, below a prefix: the program, the library, the header, and what shells,
pkg-config and man read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from . import binaries, manual, notices

DESCRIPTION = "ONNX models on the processors of a Linux machine"
COMPLETIONS = {
    "bash": "share/bash-completion/completions/apus",
    "zsh": "share/zsh/site-functions/_apus",
    "fish": "share/fish/vendor_completions.d/apus.fish",
}


def pkg_config(library_folder: str) -> str:
    """The module `apus`, which finds the prefix from where it lies itself, so that an installation may be moved."""
    up = "/".join([".."] * (len(Path(library_folder).parts) + 1))
    return f"""prefix=${{pcfiledir}}/{up}
libdir=${{prefix}}/{library_folder}
includedir=${{prefix}}/include

Name: apus
Description: {DESCRIPTION}
Version: {binaries.version()}
Libs: -L${{libdir}} -lapus
Cflags: -I${{includedir}}
"""


def asked(program: Path, *arguments: str) -> bytes:
    return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE).stdout


def place(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes a file under a temporary name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(content)
        new.chmod(mode)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def link(path: Path, target: str) -> None:
    """Makes, or replaces, a symbolic link."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.symlink_to(target)
    new.replace(path)


def install(built: binaries.Binaries, prefix: Path, library_folder: str = "lib") -> None:
    """Installs below `prefix`; files of an earlier installation are replaced one by one."""
    place(prefix / "bin/apus", built.program.read_bytes(), 0o755)
    library = prefix / library_folder / f"libapus.so.{binaries.version()}"
    place(library, built.library.read_bytes())
    link(library.with_name(binaries.SONAME), library.name)
    link(library.with_name("libapus.so"), binaries.SONAME)
    place(library.parent / "pkgconfig/apus.pc", pkg_config(library_folder).encode())
    place(prefix / "include/apus.h", binaries.HEADER.read_bytes())
    for shell, path in COMPLETIONS.items():
        place(prefix / path, asked(built.program, "--generate-completion-script", shell))
    for name, text in manual.pages(asked(built.program, "--experimental-dump-help"), binaries.version()).items():
        place(prefix / "share/man/man1" / name, text.encode())
    for name, text in notices.texts().items():
        place(prefix / "share/doc/apus" / name, text)
