"""Apus in the place of onnxruntime, for programs and libraries that import it by name:

    import apus.compat
    apus.compat.install()   # before the library is imported

Afterwards `import onnxruntime` finds this module.
"""

from __future__ import annotations

import sys
from types import ModuleType

import apus

from . import _errors, _options, _ortvalues, _session
from ._session import InferenceSession

#: The version of onnxruntime whose names are here: what programs that ask for a version compare with.
__version__ = version = "1.31.1"
package_name = "apus"

for _name in apus.__all__:
    if not _name.startswith("_"):
        globals()[_name] = getattr(apus, _name)
SessionIOBinding = _ortvalues.IOBinding


def __getattr__(name: str) -> object:
    raise _errors.missing(name, _errors.MISSING_IN_MODULE, "module 'onnxruntime'")


def get_version_string() -> str:
    return __version__


def has_collective_ops() -> bool:
    return False


def preload_dlls(*arguments: object, **named: object) -> None:
    """There is nothing to load."""


def print_debug_info() -> None:
    """Prints which library runs in onnxruntime's place."""
    print(f"Apus {apus.__version__}, {apus.library_path()}")


def _module(name: str, **content: object) -> ModuleType:
    module = ModuleType(name, f"Apus in the place of {name}.")
    module.__dict__.update(content)
    return module


def install() -> None:
    """Makes `import onnxruntime`, and its modules that programs use, find Apus. To be called before anything has
    imported onnxruntime: what was imported already stays what it is."""
    if sys.modules.get("onnxruntime") not in (None, sys.modules[__name__]):
        raise ImportError("onnxruntime was imported already; call apus.compat.install() before")
    exceptions = {kind.__name__: kind for kind in _errors.ONNXRUNTIME_NAMES}
    names = {name: value for name, value in globals().items() if not name.startswith("_")} | exceptions
    modules = {
        "onnxruntime_pybind11_state": _module("onnxruntime.capi.onnxruntime_pybind11_state", **names),
        "_pybind_state": _module("onnxruntime.capi._pybind_state", **names),
        "onnxruntime_inference_collection": _module(
            "onnxruntime.capi.onnxruntime_inference_collection",
            InferenceSession=InferenceSession,
            IOBinding=_ortvalues.IOBinding,
            OrtValue=_ortvalues.OrtValue,
            OrtDevice=_ortvalues.OrtDevice,
            NodeArg=_session.NodeArg,
            RunOptions=_options.RunOptions,
            SessionOptions=_options.SessionOptions,
        ),
    }
    capi = _module("onnxruntime.capi", __path__=[], **modules)
    globals()["capi"] = capi
    # Packages have a path, if only an empty one.
    globals().setdefault("__path__", [])
    sys.modules["onnxruntime"] = sys.modules[__name__]
    sys.modules["onnxruntime.capi"] = capi
    for name, module in modules.items():
        sys.modules[f"onnxruntime.capi.{name}"] = module
