"""Random cases of operators, a generator each, a file a family; see tools/differential.py."""

import importlib
import pkgutil

from .case import GENERATORS, Case, NotApplicable, draw, family_of

# Every module of the package registers its generators when it is imported.
for _module in pkgutil.walk_packages(__path__, __name__ + "."):
    importlib.import_module(_module.name)

__all__ = ["GENERATORS", "Case", "NotApplicable", "draw", "family_of"]
