"""Random cases of the operators of com.microsoft, a generator each; see tools/differential_microsoft.py."""

from . import attention, layers, movement, quantized  # noqa: F401
from .case import GENERATORS, Case

__all__ = ["GENERATORS", "Case"]
