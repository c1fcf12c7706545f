"""The build backend of pyproject.toml: `pip install` and `pip wheel` of this folder run tools/build-wheel, which
needs the Swift toolchain and the rest of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent / "build-wheel"


def build_wheel(
    wheel_directory: str, config_settings: dict[str, str] | None = None, metadata_directory: str | None = None
) -> str:
    """Builds the wheel into the folder and returns its file name."""
    if not TOOL.exists():
        raise RuntimeError(f"{TOOL} is not there: the package is built from a whole checkout of Apus")
    command = [sys.executable, TOOL, "--quiet", "--output", wheel_directory]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise RuntimeError("tools/build-wheel failed")
    return Path(built.stdout.strip()).name


def build_sdist(sdist_directory: str, config_settings: dict[str, str] | None = None) -> str:
    """There are no source distributions: the sources are the whole repository."""
    raise RuntimeError("Apus has no source distribution; build a wheel from a checkout")
