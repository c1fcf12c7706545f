"""What a program or library asks of the system and shows to others, read with binutils."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

# Libraries of the C and C++ runtimes, which belong to the system.
SYSTEM = re.compile(r"^(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+)\.so")


def _output(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


def needed(file: Path) -> list[str]:
    """The names of the shared libraries that the file asks for."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", _output("readelf", "--wide", "--dynamic", file))


def soname(file: Path) -> str | None:
    found = re.search(r"\(SONAME\).*\[(.+)\]", _output("readelf", "--wide", "--dynamic", file))
    return found[1] if found else None


def search_path(file: Path) -> str | None:
    """RPATH or RUNPATH; None if the file has neither."""
    found = re.search(r"\((?:RPATH|RUNPATH)\).*\[(.+)\]", _output("readelf", "--wide", "--dynamic", file))
    return found[1] if found else None


def exported(library: Path) -> set[str]:
    """The symbols that the library defines for others."""
    lines = _output("nm", "--dynamic", "--defined-only", "--extern-only", library).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if line}


def newest_glibc(file: Path) -> tuple[int, int]:
    """The newest version of glibc that a symbol of the file was introduced in."""
    versions = re.findall(r"\bGLIBC_(\d+)\.(\d+)", _output("readelf", "--wide", "--version-info", file))
    return max((int(major), int(minor)) for major, minor in versions)
