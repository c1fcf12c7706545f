"""The build that is handed to others: the program `apus` and libapus, with the Swift runtime and every library but
those of C and C++ linked into them, and nothing but the functions of apus.h visible."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import elf

ROOT = Path(__file__).resolve().parent.parent.parent
SCRATCH = ROOT / ".build/packages"
HEADER = ROOT / "Sources/ApusC/include/apus.h"
SONAME = "libapus.so.0"

# The pkg-config modules of Package.swift, with the archive that Swift links for each, and the archives that it needs.
ARCHIVES = {
    "libprotobuf-c": ["protobuf-c"],
    "zlib": ["z"],
    "libjpeg": ["jpeg"],
    "libpng": ["png16", "z"],
    "libtiff-4": ["tiff", "jpeg", "webp", "deflate", "lzma", "zstd", "z"],
    "libwebp": ["webp"],
    "libopenjp2": ["openjp2"],
}
# Members of libtiff that static_libraries.c stands for.
LEFT_OUT = ["tif_jbig.o", "tif_lerc.o"]


@dataclass
class Binaries:
    program: Path
    library: Path

    @property
    def glibc(self) -> tuple[int, int]:
        """The oldest version of glibc that both run on."""
        return max(elf.newest_glibc(self.program), elf.newest_glibc(self.library))


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """The standard output of a command that must succeed."""
    finished = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=os.environ | (environment or {})
    )
    if finished.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{finished.stdout}{finished.stderr}")
    return finished.stdout


def version() -> str:
    """The version of the library, which the Python package has too."""
    return re.findall(r'__version__ = "(.+)"', (ROOT / "tools/python/apus/_version.py").read_text())[0]


def declared_functions() -> list[str]:
    """The functions that the header declares."""
    without_comments = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    return sorted(set(re.findall(r"\b(apus_\w+)\(", without_comments)))


def archive_path(name: str) -> Path:
    path = Path(run("clang", f"-print-file-name=lib{name}.a").strip())
    if not path.is_absolute():
        sys.exit(f"lib{name}.a is not there; `tools/setup` names the Debian packages that are missing")
    return path.resolve()


def stage_archives(folder: Path) -> Path:
    """Fills a folder with copies of the archives, without code under the GPL, and with pkg-config modules that lead to
    them and shadow the system's. Returns the folder of the modules."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("copies", "pkgconfig"):
        (folder / name).mkdir(parents=True)
    copies = {name: folder / f"copies/lib{name}.a" for names in ARCHIVES.values() for name in names}
    for name, copy in copies.items():
        renamed = [f"--redefine-sym={stream}=apus_archive_{stream}" for stream in ("stdout", "stderr")]
        run("objcopy", *renamed, archive_path(name), copy)
    run("ar", "d", copies["tiff"], *LEFT_OUT)
    support = folder / "copies/support.o"
    run("clang", "-c", "-O2", "-fPIC", Path(__file__).parent / "static_libraries.c", "-o", support)
    run("ar", "rcs", support.with_suffix(".a"), support)
    for module, names in ARCHIVES.items():
        # A linker script in place of an archive names it and what it needs, in any order of one another.
        group = [*(copies[name] for name in names), support.with_suffix(".a")]
        (folder / f"lib{names[0]}.a").write_text("GROUP ( " + " ".join(f'"{path}"' for path in group) + " )\n")
        cflags = run("pkg-config", "--cflags", module).strip()
        text = f"Name: {module}\nDescription: static {module}\nVersion: {run('pkg-config', '--modversion', module)}"
        text += f"Cflags: {cflags}\nLibs: -L{folder} -l{names[0]}\n"
        (folder / "pkgconfig" / f"{module}.pc").write_text(text)
    return folder / "pkgconfig"


def in_folder(folder: Path) -> Binaries:
    """The binaries in a folder, which somebody else built."""
    found = Binaries(folder / "apus", folder / "libapus-c.so")
    for file in (found.program, found.library):
        if not file.exists():
            sys.exit(f"{file} is not there")
    return found


def build() -> Binaries:
    """Builds apart from the other builds, whose flags differ."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    modules = stage_archives(SCRATCH / "archives")
    script = SCRATCH / "apus.map"
    script.write_text("{ global: " + "; ".join(declared_functions()) + "; local: *; };\n")
    command: list[str | Path] = ["swift", "build", "--package-path", ROOT, "--scratch-path", SCRATCH, "-c", "release"]
    command += ["--static-swift-stdlib", "-Xswiftc", "-static-stdlib"]
    common = ["--strip-all", "--no-undefined"]
    environment = {"PKG_CONFIG_PATH": str(modules)}
    print("building for others (the first time takes some minutes)", file=sys.stderr)
    for product, flags in [
        ("apus-c", [f"--version-script={script}", f"-soname={SONAME}", *common]),
        ("apus", common),
    ]:
        options = [option for flag in flags for option in ("-Xlinker", str(flag))]
        run(*command, "--product", product, *options, environment=environment)
    binaries = in_folder(SCRATCH / "release")
    check(binaries)
    return binaries


def check(binaries: Binaries) -> None:
    """Ends the program if the binaries ask for more than the system has or show more than the header declares."""
    for file in (binaries.program, binaries.library):
        foreign = [name for name in elf.needed(file) if not elf.SYSTEM.match(name)]
        if foreign:
            sys.exit(f"{file} needs {', '.join(foreign)}; expected the libraries of C and C++ alone")
    difference = elf.exported(binaries.library) ^ set(declared_functions())
    if difference:
        sys.exit(f"{binaries.library}: exported and declared functions differ: {', '.join(sorted(difference))}")
    if elf.soname(binaries.library) != SONAME:
        sys.exit(f"{binaries.library} has the SONAME {elf.soname(binaries.library)}; expected {SONAME}")
