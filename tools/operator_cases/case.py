"""A model of one node with random inputs, as it is put together by a generator."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from . import values as forms
from .tolerances import tolerance_of

NEWEST_OPSET = 28
EXTENTS = (0, 1, 1, 2, 2, 3, 3, 5, 5, 7, 7, 11, 13, 16, 17, 31, 33, 64)
LARGEST_COUNT = 4000
WORDS = ("", "a", "b", "ab", "Ab", "ba", "abc", "é", "É", "ß", "日本", "日", "🐦", "a b", " ", "e\u0301", "0", "-1.5")
BASE_OPSET = 21  # of the default domain, in models whose node stands in another

GENERATORS: dict[tuple[str, str], Callable[["Case"], None]] = {}


class NotApplicable(Exception):
    """The drawn or forced combination means nothing; the driver draws anew."""


def generator(*names: str, domain: str = "") -> Callable[[Callable], Callable]:
    """Registers a generator under the names of operators of one domain."""

    def register(function: Callable[["Case"], None]) -> Callable[["Case"], None]:
        for name in names:
            GENERATORS[domain, name] = function
        return function

    return register


def family_of(domain: str, op: str) -> str:
    """The file or folder of this package that holds the generator of an operator."""
    return GENERATORS[domain, op].__module__.split(".")[1]


@functools.cache
def history(op: str, domain: str) -> tuple[Any, ...]:
    """The schemas of an operator, the oldest first."""
    return tuple(
        sorted(
            (
                schema
                for schema in onnx.defs.get_all_schemas_with_history()
                if (schema.name, schema.domain) == (op, domain)
            ),
            key=lambda schema: schema.since_version,
        )
    )


def versions_of(op: str, domain: str = "") -> list[int]:
    """The versions of an operator that are not deprecated, ascending; [1] where onnx has no schema."""
    return [schema.since_version for schema in history(op, domain) if not schema.deprecated] or [1]


def last_opset(op: str, domain: str, version: int) -> int:
    """The newest opset in which `version` of the operator is the one that counts."""
    versions = [schema.since_version for schema in history(op, domain)]
    if not versions:
        return 1 if domain else BASE_OPSET
    following = [other for other in versions if other > version]
    newest = NEWEST_OPSET if not domain else {"ai.onnx.ml": 5}.get(domain, 1)
    return min(following) - 1 if following else newest


class Case:
    """Inputs, one node, outputs, and how near the results must come."""

    def __init__(
        self,
        rng: np.random.Generator,
        op: str,
        domain: str = "",
        version: int | None = None,
        opset: int | None = None,
        forced: dict[str, int | str] | None = None,
        max_rank: int = 6,
        max_extent: int = 64,
    ) -> None:
        self.rng, self.op, self.domain = rng, op, domain
        self.max_rank, self.max_extent = max_rank, max_extent
        choices = versions_of(op, domain)
        if version is None:
            version = choices[-1] if self.chance() else self.pick(*choices)
        self.version = version
        last = last_opset(op, domain, version)
        self.opset = opset or (version if last < version else int(rng.integers(version, last + 1)))
        self.base_opset = BASE_OPSET
        try:
            self.schema = onnx.defs.get_schema(op, version, domain)
        except onnx.defs.SchemaError:
            self.schema = None
        self.forced = forced or {}
        self.types: dict[str, int] = {}
        self.feeds: dict[str, Any] = {}
        self.values_by_name: dict[str, Any] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.under_test: onnx.NodeProto | None = None
        self.compares_values = True
        self.keeps_ranks = domain == "com.microsoft"  # no graph input is of unknown rank
        # What the generator computed itself, where no oracle has the operator.
        self.expected: list[Any] | None = None
        self.dtype: Any = np.float32

    # Choices

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def optional(self, value: Any, probability: float = 0.5) -> Any:
        """The value, or None."""
        return value if self.chance(probability) else None

    def size(self, low: int = 1, high: int = 8) -> int:
        """An integer from low to high, not above max_extent where low allows."""
        return int(self.rng.integers(low, max(low, min(high, self.max_extent)) + 1))

    def rank(self, low: int = 0, high: int = 6) -> int:
        return int(self.rng.integers(low, max(low, min(high, self.max_rank)) + 1))

    def shape(self, rank: int | None = None, low: int = 0, high: int = 7) -> list[int]:
        """Extents from low to high, mostly small and prime; a tensor of them has at most about 4,000 elements."""
        rank = self.rank() if rank is None else rank
        highest = max(low, min(high, self.max_extent))
        choices = [extent for extent in EXTENTS if low <= extent <= highest] or list(range(low, highest + 1))
        shape: list[int] = []
        count = 1
        for left in range(rank, 0, -1):
            # What the remaining axes need at least stays free.
            room = LARGEST_COUNT // (count * max(low, 1) ** (left - 1))
            fitting = [extent for extent in choices if extent <= room] or [low]
            extent = self.pick(*fitting)
            if extent == 0 and not self.chance(0.4):
                extent = fitting[-1]
            shape.append(extent)
            count *= max(extent, 1)
        self.rng.shuffle(shape)
        return [int(extent) for extent in shape]

    def axis(self, rank: int) -> int:
        """An axis of a tensor, counted from the end half of the time; 0 for rank 0."""
        return int(self.rng.integers(-rank, rank)) if rank else 0

    # Types

    def allowed(self, variable: str) -> list[str]:
        """The type strings that the schema's version allows for a variable."""
        for constraint in self.schema.type_constraints if self.schema else ():
            if constraint.type_param_str == variable:
                return list(constraint.allowed_type_strs)
        raise KeyError(f"{self.op}-{self.version} has no type variable {variable}")

    def type(self, variable: str, only: Iterable[int] | None = None, but: Iterable[int] | None = None) -> int:
        """The element type of a variable, drawn once a case from the tensor types that the version allows for it."""
        allowed = {forms.ELEMENT_TYPES[text] for text in self.allowed(variable) if text in forms.ELEMENT_TYPES}
        if only is not None:
            allowed &= set(only)
        allowed -= set(but or ())
        if variable not in self.types:
            if variable in self.forced:
                self.types[variable] = self.forced[variable]
            elif allowed:
                self.types[variable] = (
                    T.FLOAT if T.FLOAT in allowed and self.chance(0.4) else self.pick(*sorted(allowed))
                )
        if self.types.get(variable) not in allowed:
            raise NotApplicable(f"{self.op}-{self.version}: no type for {variable}")
        return self.types[variable]

    def variable_type(self, variable: str, containers: float = 0.3) -> str:
        """A type string of a variable that allows containers; a forced element type is a tensor of it."""
        if isinstance(self.forced.get(variable), str):
            return self.forced[variable]
        if variable in self.forced:
            return forms.type_text(helper.make_tensor_type_proto(self.type(variable), None))
        allowed = self.allowed(variable)
        boxed = [text for text in allowed if text not in forms.ELEMENT_TYPES]
        if boxed and (len(boxed) == len(allowed) or self.chance(containers)):
            return self.pick(*boxed)
        return self.pick(*[text for text in allowed if text in forms.ELEMENT_TYPES])

    def float_type(self, half: float = 0.2) -> type:
        """float32, sometimes float16, for operators without a schema; `floats` follows."""
        self.dtype = np.float16 if self.chance(half) else np.float32
        return self.dtype

    # Values

    def values(
        self,
        elem_type: int,
        shape: Sequence[int],
        low: float | None = None,
        high: float | None = None,
        special: bool = False,
    ) -> np.ndarray:
        """Random elements, within [low, high] where given; `special` adds NaN, infinities, -0, extremes at times."""
        shape = tuple(int(extent) for extent in shape)
        if elem_type == T.STRING:
            words = [self.pick(*WORDS) for _ in range(int(np.prod(shape, dtype=np.int64)))]
            return np.array(words, dtype=object).reshape(shape)
        if elem_type == T.BOOL:
            return self.rng.random(shape) < 0.5
        if elem_type in forms.COMPLEX:
            parts = [self.values(T.DOUBLE, shape, low, high) for _ in range(2)]
            return np.asarray(parts[0] + 1j * parts[1]).astype(forms.dtype_of(elem_type))
        if elem_type in forms.INTEGERS:
            return self.integer_values(elem_type, shape, low, high, special)
        if elem_type == T.FLOAT8E8M0:
            return np.exp2(np.asarray(self.rng.integers(-3, 4, shape), np.float32)).astype(forms.dtype_of(elem_type))
        if low is None and high is None:
            array = np.asarray(self.rng.standard_normal(shape) * 2)
        else:
            low, high = (-high if low is None and high > 0 else low), (low + 10 if high is None else high)
            array = np.asarray(self.rng.uniform(high - 10 if low is None else low, high, shape))
        array = array.astype(forms.dtype_of(elem_type))
        if special and array.size and self.chance():
            self.scatter(array, self.special_floats(array.dtype))
        return array

    def integer_values(
        self, elem_type: int, shape: tuple[int, ...], low: float | None, high: float | None, special: bool
    ) -> np.ndarray:
        least, largest = forms.limits(elem_type)
        first = max(least, -10 if low is None else int(low))
        last = min(largest, max(first, 10) if high is None else int(high))
        wide = np.uint64 if elem_type == T.UINT64 else np.int64
        array = self.rng.integers(first, max(first, last), shape, dtype=wide, endpoint=True)
        array = np.asarray(array).astype(forms.dtype_of(elem_type))
        if special and array.size and self.chance():
            self.scatter(array, np.array([least, largest, 0], dtype=array.dtype))
        return array

    @staticmethod
    def special_floats(dtype: np.dtype) -> np.ndarray:
        """What the type has of NaN, infinities, both zeros, the largest, least normal and least numbers."""
        info = forms.ml_dtypes.finfo(dtype)
        numbers = [0.0, -0.0, float(info.max), float(info.min), float(info.smallest_normal), 1.0]
        if dtype.kind == "f" or forms.elem_type_of(np.empty(0, dtype)) == T.BFLOAT16:
            numbers += [np.nan, np.inf, -np.inf, np.nan, np.inf, -np.inf, float(info.smallest_subnormal)]
        return np.array(numbers).astype(dtype)

    def scatter(self, array: np.ndarray, choices: np.ndarray) -> None:
        """Puts some of the choices at random places."""
        flat = array.reshape(-1)
        for place in self.rng.integers(0, flat.size, max(1, flat.size // 4)):
            flat[place] = choices[int(self.rng.integers(choices.size))]

    def floats(self, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
        """Normal numbers of the type `dtype`."""
        return np.asarray(self.rng.standard_normal(tuple(shape)) * scale).astype(self.dtype)

    def integers(self, shape: Sequence[int], low: int, high: int, dtype: Any = np.int64) -> np.ndarray:
        """Integers from low to high - 1."""
        return np.asarray(self.rng.integers(low, high, tuple(shape))).astype(dtype)

    def quantized(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Integers of the whole range of a type."""
        info = np.iinfo(dtype)
        return self.integers(shape, info.min, info.max + 1, dtype)

    def signed_bytes(self, shape: Sequence[int]) -> np.ndarray:
        """Factors of a product of bytes: half of the time of seven bits, whose pairs never saturate in 16 bits."""
        return self.integers(shape, *self.pick((-128, 128), (-64, 65)), np.int8)

    def factors(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """`quantized`, or `signed_bytes` where they are that."""
        return self.signed_bytes(shape) if dtype == np.int8 else self.quantized(shape, dtype)

    # The model

    def name(self) -> str:
        return f"i{len(self.inputs) + len(self.initializers)}"

    def input(self, value: Any, constant: bool | float = False, elem_type: int | str | None = None) -> str:
        """The name of a graph input, or of an initializer, which it is with the probability `constant`; "" for None.

        A value is an array, a list (sequence), a dict (map); None with a type string is an optional without a value. A
        type string says what cannot be seen: of an empty sequence, of an optional.
        """
        if value is None and not isinstance(elem_type, str):
            return ""
        if isinstance(value, list | dict) or isinstance(elem_type, str):
            name = self.name()
            text = elem_type if isinstance(elem_type, str) else forms.type_of_value(value)
            self.inputs.append(helper.make_value_info(name, forms.type_proto(text)))
            self.feeds[name] = self.values_by_name[name] = value
            return name
        array = np.asarray(value)
        if elem_type is not None:
            array = array.astype(forms.dtype_of(elem_type))
        if constant is True or (constant is not False and self.chance(float(constant))):
            name = self.initializer(numpy_helper.from_array(array, self.name()))
            self.values_by_name[name] = array
            return name
        name = self.name()
        dims: list[int | str] | None = [
            f"{name}_{axis}" if self.chance(0.3) else size for axis, size in enumerate(array.shape)
        ]
        if not self.keeps_ranks and self.chance(0.1):
            dims = None
        self.inputs.append(helper.make_tensor_value_info(name, forms.elem_type_of(array), dims))
        self.feeds[name] = self.values_by_name[name] = array
        return name

    def initializer(self, tensor: onnx.TensorProto) -> str:
        tensor.name = self.name()
        self.initializers.append(tensor)
        return tensor.name

    def output(self, kind: Any) -> str:
        """The name of a graph output of an element type, a NumPy type or a type string; "" for None."""
        if kind is None:
            return ""
        name = f"o{len(self.outputs)}"
        if isinstance(kind, str):
            info = helper.make_value_info(name, forms.type_proto(kind))
        elif isinstance(kind, int):
            info = helper.make_tensor_value_info(name, kind, None)
        else:
            info = helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)
        self.outputs.append(info)
        return name

    def node(self, inputs: Sequence[str], outputs: Sequence[Any], **attributes: Any) -> onnx.NodeProto:
        """Adds the node under test; `outputs` are types, None if not wanted. Attributes of None are left out."""
        names = [self.output(kind) for kind in outputs]
        kept = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(self.op, trimmed(inputs), trimmed(names), domain=self.domain, **kept)
        self.nodes.append(node)
        self.under_test = node
        return node

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "case", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.base_opset if self.domain else self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, self.opset))
        version = max(10, helper.find_min_ir_version_for(opsets, ignore_unknown=True))
        return helper.make_model(graph, opset_imports=opsets, ir_version=version)

    # What known differences and reports ask

    def operand(self, index: int) -> Any:
        """The value of an input of the node under test; None if it is absent or the output of another node."""
        names = self.under_test.input if self.under_test else ()
        return self.values_by_name.get(names[index]) if index < len(names) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node under test; a default that is a float is one of 32 bits, as attributes are."""
        for attribute in self.under_test.attribute if self.under_test else ():
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return float(np.float32(default)) if isinstance(default, float) else default

    def tolerance(self, index: int) -> tuple[float, float]:
        """rtol and atol of an output: what tolerances.py says of its type and of the operator."""
        proto = self.outputs[index].type
        while proto.WhichOneof("value") in ("sequence_type", "optional_type"):
            inner = proto.sequence_type if proto.WhichOneof("value") == "sequence_type" else proto.optional_type
            proto = inner.elem_type
        elem_type = proto.tensor_type.elem_type if proto.WhichOneof("value") == "tensor_type" else T.FLOAT
        return tolerance_of(self, elem_type)

    def summary(self) -> str:
        """The case in a line or a few: opset, attributes, and types, shapes and small values of the inputs."""
        node = self.under_test
        attributes = ", ".join(
            f"{attribute.name}={shown(self.attribute(attribute.name))}"
            for attribute in (node.attribute if node else ())
        )
        constants = {tensor.name for tensor in self.initializers}
        parts = []
        for name in node.input if node else ():
            value = self.values_by_name.get(name)
            text = described(value) if name in self.values_by_name else name or "-"
            parts.append(text + (" (constant)" if name in constants else ""))
        opset = f"opset {self.opset}" + (f" of {self.domain}" if self.domain else "")
        return f"{self.op} ({opset}; {attributes or 'no attributes'}) of " + "; ".join(parts)

    def write(self, folder: Path, results: Sequence[Any] | None) -> None:
        """Writes the layout of the ONNX backend suite, with `results` as the expected outputs, if there are any."""
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.model().SerializeToString())
        pairs = [self.tolerance(index) for index in range(len(self.outputs))]
        tolerance = {
            "rtol": pairs[0][0] if pairs else 0,
            "atol": pairs[0][1] if pairs else 0,
            "values": self.compares_values,
            "outputs": [{"rtol": rtol, "atol": atol} for rtol, atol in pairs],
        }
        (folder / "tolerance.json").write_text(json.dumps(tolerance))
        given = [self.feeds[info.name] for info in self.inputs]
        wanted = [] if results is None else self.outputs
        for role, infos, items in (("input", self.inputs, given), ("output", wanted, results or [])):
            for index, (info, value) in enumerate(zip(infos, items, strict=True)):
                proto = forms.to_proto(value, info.type, info.name)
                (data / f"{role}_{index}.pb").write_bytes(proto.SerializeToString())


def trimmed(names: Sequence[str]) -> list[str]:
    """Names without the empty ones at the end."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def shown(value: Any) -> str:
    """An attribute in a line."""
    if isinstance(value, onnx.TensorProto):
        return described(numpy_helper.to_array(value))
    return "a graph" if isinstance(value, onnx.GraphProto) else repr(value)


def described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        text = f"{value.dtype}{list(value.shape)}"
        if 0 < value.size <= 8:
            text += f"={value.tolist()}"
        return text
    if isinstance(value, list):
        return f"sequence of {len(value)}" + (f": {described(value[0])}, …" if value else "")
    return repr(value)


def draw(rng: np.random.Generator, op: str, domain: str = "", **options: Any) -> Case:
    """A case of the operator. NotApplicable where what was drawn means nothing; options are those of Case."""
    case = Case(rng, op, domain, **options)
    GENERATORS[domain, op](case)
    return case
