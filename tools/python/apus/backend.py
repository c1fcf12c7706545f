"""Apus as a backend of onnx, for onnx's own tests: `onnx.backend.test.BackendTest(apus.backend, __name__)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from ._session import InferenceSession


class ApusBackendRep(BackendRep):
    """A model that was prepared."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs = [arg.name for arg in session.get_inputs()]
        self._outputs = [arg.name for arg in session.get_outputs()]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """A named tuple of the outputs, for inputs in the order of the model's or by name; one may stand alone."""
        if isinstance(inputs, Mapping):
            feeds = dict(inputs)
        else:
            values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            if len(values) != len(self._inputs):
                raise ValueError(
                    f"{len(values)} inputs for a model with {len(self._inputs)}: {', '.join(self._inputs)}"
                )
            feeds = dict(zip(self._inputs, values, strict=True))
        return namedtupledict("Outputs", self._outputs)(*self._session.run(None, feeds, **kwargs))


class ApusBackend(Backend):
    """onnx's interface of backends. Keyword arguments of `prepare` are those of `InferenceSession`."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        return cls.supports_device(device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return bool(Device(device).type == DeviceType.CPU)

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> ApusBackendRep:
        """Loads a model: a ModelProto, bytes, or a path."""
        if not cls.supports_device(device):
            raise ValueError(f"there is no device {device}, only the CPU")
        return ApusBackendRep(InferenceSession(model, **kwargs))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Runs one node on the values of its inputs, omitted ones left out; `opset_version` is that of its domain."""
        opset = kwargs.pop("opset_version", None)
        names = list(dict.fromkeys(name for name in node.input if name))
        values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        feeds = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(names, values, strict=True))
        graph = onnx.helper.make_graph(
            [node],
            node.op_type,
            [onnx.helper.make_value_info(name, _type_of(feeds[name])) for name in names],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        if opset is None:
            opset = onnx.defs.get_schema(node.op_type, domain=node.domain).since_version if node.domain else None
        imports = [onnx.helper.make_opsetid(node.domain, opset or onnx.defs.onnx_opset_version())]
        model = onnx.helper.make_model(graph, opset_imports=imports)
        return cls.run_model(model, feeds, device, **kwargs)


def _type_of(value: Any) -> onnx.TypeProto:
    """The declared type of an input that has this value."""
    if isinstance(value, (list, tuple)):
        return onnx.helper.make_sequence_type_proto(_type_of(value[0]))
    array = np.asarray(value)
    text = array.dtype.kind in "OUST"
    element = onnx.TensorProto.STRING if text else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_type_proto(element, array.shape)


# onnx's runner takes a module with the methods of the class.
is_compatible = ApusBackend.is_compatible
supports_device = ApusBackend.supports_device
prepare = ApusBackend.prepare
run_model = ApusBackend.run_model
run_node = ApusBackend.run_node
