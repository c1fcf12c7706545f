"""Random small ONNX models for tools/random_graphs.py: valid by construction, with what passes of optimizers look for.

A model has inputs of several shapes at once: every value knows its shape for each of the `FEEDS` feeds, and an operator
is only applied where it is valid for all of them. Values are shared, and any of them may be an output.
"""

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h

from .control import Control
from .core import FEEDS, Builder, Value
from .elements import Elements
from .layers import Layers
from .shapes import Shapes

__all__ = ["FEEDS", "Generator", "Value"]


class Generator(Builder, Elements, Layers, Shapes, Control):
    """One model. `build` returns it with its feeds."""

    def build(self):
        self.make_inputs()
        steps = int(self.random.integers(3, 16))
        emitters = [getattr(self, name) for name in dir(self) if name.startswith("add_")]
        odds = np.array([float(getattr(e, "odds", 1.0)) for e in emitters])
        for _ in range(steps):
            self.random.choice(emitters, p=odds / odds.sum())()
        made = {name for node in self.nodes for name in node.output}
        ends = [v for v in self.values if v.name in made]
        used = {name for node in self.nodes for name in node.input}
        chosen = [v for v in ends if v.name not in used or self.chance(0.15)]
        if self.chance(0.05):
            chosen.append(self.values[0])
        if not chosen:
            chosen = [self.values[-1]]
        self.random.shuffle(chosen)
        outputs = [h.make_tensor_value_info(v.name, v.kind, None) for v in chosen]
        graph = h.make_graph(self.nodes, "random", self.inputs, outputs, self.initializers, value_info=self.declared)
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", self.opset)], ir_version=8)
        return model, self.feeds, chosen

    def make_inputs(self):
        sizes = {s: [int(self.random.integers(1, 5)) for _ in range(FEEDS)] for s in ("n", "s", "t")}
        layouts = {
            2: ["n", 8],
            3: ["n", "s", 8],
            4: ["n", 4, 6, 6],
            5: ["n", 3, "s", 4],
        }
        for key in self.random.choice(list(layouts), size=int(self.random.integers(1, 4)), replace=False):
            dims = [d if self.chance(0.9) or isinstance(d, int) else None for d in layouts[int(key)]]
            shapes = [[sizes[d][f] if isinstance(d, str) else d for d in layouts[int(key)]] for f in range(FEEDS)]
            self.input(T.FLOAT, shapes, dims)
        if self.chance(0.4):
            self.input(T.INT64, [[sizes["n"][f]] for f in range(FEEDS)], ["n"])
        if self.chance(0.4):
            self.input(T.BOOL, [[] for _ in range(FEEDS)], [])
