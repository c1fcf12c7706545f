"""onnxruntime's boxes for values and its bindings of inputs and outputs, on the CPU: arrays with methods."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import InvalidArgument, NotImplemented
from ._types import BY_NUMBER, ElementType, dtype, element_type, value_type_text
from ._values import Held

if TYPE_CHECKING:
    from ._options import RunOptions
    from ._session import InferenceSession


def _require_cpu(device: Any, device_id: int = 0) -> None:
    name = device.device_type() if isinstance(device, OrtDevice) else str(device)
    if name.lower() not in ("cpu", "cuda_pinned"):
        raise InvalidArgument(f"there is no device '{name}:{device_id}', only the CPU")


class OrtDevice:
    """A device; there is only the CPU."""

    @staticmethod
    def make(name: str, device_id: int = 0, vendor_id: int = -1) -> OrtDevice:
        _require_cpu(name, device_id)
        return OrtDevice()

    def device_type(self) -> str:
        return "cpu"

    def device_id(self) -> int:
        return 0

    def device_mem_type(self) -> int:
        return 0

    def device_vendor_id(self) -> int:
        return 0


class OrtValue:
    """A value of ONNX in a box: an array, a list of values, a dictionary, or nothing."""

    def __init__(self, value: Any, onnx_type: ElementType | None = None) -> None:
        self._content = value
        self._element = onnx_type

    @property
    def _value(self) -> Any:
        """The array over a result that was only held so far, or whatever else the box holds."""
        return self._content.array() if isinstance(self._content, Held) else self._content

    def _feed(self) -> Any:
        """What a run takes: the result of another one as it is, if nobody has looked at it."""
        return self._content

    def _forget_gift(self) -> None:
        """Empties the box if a run has taken what was in it."""
        if isinstance(self._content, Held) and self._content.is_given:
            self._content = None

    @staticmethod
    def ortvalue_from_numpy(
        numpy_obj: np.ndarray, /, device_type: Any = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A box over the array itself, which is read by every run with it."""
        _require_cpu(device_type, device_id)
        if not isinstance(numpy_obj, np.ndarray) or element_type(numpy_obj) is None:
            found = numpy_obj.dtype if isinstance(numpy_obj, np.ndarray) else type(numpy_obj).__name__
            raise InvalidArgument(f"ortvalue_from_numpy was given {found}; expected an array of a type that ONNX has")
        return OrtValue(numpy_obj)

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(data: np.ndarray, /, onnx_element_type: int) -> OrtValue:
        """A box over an array whose elements are the bits of another type of the same width."""
        element = _element(onnx_element_type)
        if element.bits != data.dtype.itemsize * 8:
            raise InvalidArgument(f"elements of {data.dtype} cannot be the bits of {element.name}")
        return OrtValue(data.view(dtype(element)), element)

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int],
        element_type: Any,
        device_type: Any = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: Any = None,
    ) -> OrtValue:
        """A box over a new array of zeros; the type is NumPy's, or a number of ONNX's."""
        _require_cpu(device_type, device_id)
        return OrtValue(np.zeros(tuple(shape), _dtype(element_type)))

    @staticmethod
    def from_dlpack(data: Any, /, is_bool_tensor: bool = False) -> OrtValue:
        array = np.from_dlpack(data)
        return OrtValue(array.view(np.bool_) if is_bool_tensor else array)

    @staticmethod
    def ort_value_from_sparse_tensor(sparse: Any) -> OrtValue:
        raise NotImplemented("sparse tensors are not supported; give a dense array")

    def numpy(self) -> Any:
        """The array, or whatever else the box holds."""
        return self._value

    def __array__(self, wanted: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._value, dtype=wanted)

    def __dlpack__(self, **options: Any) -> Any:
        return np.asarray(self._value).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return np.asarray(self._value).__dlpack_device__()

    def update_inplace(self, np_arr: np.ndarray) -> None:
        """Copies an array of the same type and shape into that of the box."""
        array = self._array()
        if np_arr.dtype != array.dtype or np_arr.shape != array.shape:
            raise InvalidArgument(
                f"an array {np_arr.dtype}{list(np_arr.shape)} for a value {array.dtype}{list(array.shape)}"
            )
        if not array.flags.writeable:
            raise InvalidArgument("the array of the value must not be written to")
        np.copyto(array, np_arr)

    def shape(self) -> list[int]:
        return list(self._content.shape if isinstance(self._content, Held) else self._array().shape)

    def data_type(self) -> str:
        """As in "tensor(float)"."""
        return value_type_text(self._value)

    def element_type(self) -> int:
        """The number that ONNX gives the type of the elements."""
        found = self._element or element_type(self._array())
        assert found is not None  # checked when the box was made
        return found.number

    def data_ptr(self) -> int:
        """The address of the first element."""
        return int(self._array().ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        return int(self._array().nbytes)

    def device_name(self) -> str:
        return "cpu"

    def has_value(self) -> bool:
        return self._content is not None

    def is_tensor(self) -> bool:
        return isinstance(self._content, Held) or isinstance(self._content, (np.ndarray, np.generic))

    def is_sparse_tensor(self) -> bool:
        return False

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._value, list)

    def as_sparse_tensor(self) -> Any:
        raise NotImplemented("sparse tensors are not supported")

    def _array(self) -> np.ndarray:
        if not self.is_tensor():
            raise InvalidArgument(f"the value is {value_type_text(self._value) or 'nothing'}, no tensor")
        return np.asarray(self._value)


def _element(number: int) -> ElementType:
    if number not in BY_NUMBER:
        raise InvalidArgument(f"{number} is no element type of ONNX")
    return BY_NUMBER[number]


def _dtype(kind: Any) -> np.dtype:
    """The dtype that a number of ONNX or anything that NumPy takes for one means."""
    return dtype(_element(kind)) if isinstance(kind, int) else np.dtype(kind)


def _over_pointer(kind: Any, shape: Sequence[int], address: int) -> np.ndarray:
    """An array over memory of the caller."""
    wanted = _dtype(kind)
    count = int(np.prod(tuple(shape), dtype=np.int64))
    if wanted.hasobject:
        raise InvalidArgument("strings cannot be bound by address")
    if not address and count:
        raise InvalidArgument("the address is 0")
    memory = memoryview((ctypes.c_byte * (count * wanted.itemsize)).from_address(address)) if count else b""
    return np.frombuffer(memory, wanted, count).reshape(tuple(shape))


class IOBinding:
    """The values that a run takes and where its results go. What is bound is read when the run begins.

    A box or memory that is bound as an input and as an output is state that the run updates where it lies, as a
    key/value cache of fixed size: where the model allows it, only what changes is written. If such a run fails, what
    the memory holds is undefined.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        # By output: where to copy it, None for a new array.
        self._targets: dict[str, np.ndarray | None] = {}
        self._outputs: list[OrtValue] = []

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Binds an array, which is not copied."""
        self._session._require_input(name)
        self._inputs[name] = arr_on_cpu

    def bind_input(
        self, name: str, device_type: Any, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Binds memory of the caller, which must stay there until the run has ended."""
        _require_cpu(device_type, device_id)
        self.bind_cpu_input(name, _over_pointer(element_type, shape, buffer_ptr))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        self.bind_cpu_input(name, ortvalue)

    def bind_output(
        self,
        name: str,
        device_type: Any = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Asks for an output; with a type, a shape and an address the result is copied there."""
        _require_cpu(device_type, device_id)
        self._session._require_output(name)
        target = None
        if buffer_ptr is not None:
            if element_type is None or shape is None:
                raise InvalidArgument(f"output '{name}' is bound to an address; element_type and shape are needed then")
            target = _over_pointer(element_type, shape, buffer_ptr)
        self._targets[name] = target

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """The result is copied into the box."""
        self._session._require_output(name)
        array = ortvalue._array()
        if not array.flags.writeable:
            raise InvalidArgument(f"output '{name}' is bound to an array that must not be written to")
        self._targets[name] = array

    def synchronize_inputs(self) -> None:
        """Nothing to wait for."""

    def synchronize_outputs(self) -> None:
        """Nothing to wait for."""

    def get_outputs(self) -> list[OrtValue]:
        """The results of the last run in the order of binding."""
        return list(self._outputs)

    def get_outputs_as_ortvaluevector(self) -> list[OrtValue]:
        return self.get_outputs()

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The results of the last run as arrays of their own."""
        return [np.array(value.numpy()) if value.is_tensor() else value.numpy() for value in self._outputs]

    def clear_binding_inputs(self) -> None:
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        self._targets.clear()
        self._outputs.clear()

    def _run(self, run_options: RunOptions | None) -> None:
        names = list(self._targets)
        if not names:
            raise InvalidArgument("no output is bound; bind_output says what to compute")
        feeds = {name: value._feed() if isinstance(value, OrtValue) else value for name, value in self._inputs.items()}
        updated = self._updated(feeds)
        results = self._session._run_held(names, feeds, run_options, updated)
        outputs = []
        for name, result in zip(names, results, strict=True):
            target = self._targets[name]
            if name in updated:
                _require_same(name, updated[name].dtype, result.shape, updated[name])
                result = target
            elif target is not None:
                result = OrtValue(result).numpy()
                _require_same(name, result.dtype, result.shape, target)
                np.copyto(target, result)
                result = target
            outputs.append(OrtValue(result))
        self._outputs = outputs

    def _updated(self, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays, by output, that are an input too, with elements that the run can update."""
        arrays = [value.made() if isinstance(value, Held) else value for value in feeds.values()]
        places = {_place(array) for array in arrays if isinstance(array, np.ndarray) and _is_plain(array)}
        types = {arg.name: arg.value_type for arg in self._session.get_outputs()}
        found = {}
        for name, target in self._targets.items():
            if target is None or not _is_plain(target) or _place(target) not in places:
                continue
            others = [other for key, other in self._targets.items() if key != name and other is not None]
            declared = types[name]
            element = declared.element if declared is not None and declared.kind == "tensor" else None
            if element is None or element_type(target) != element:
                continue
            if not any(np.may_share_memory(target, other) for other in others):
                found[name] = target
        return found


def _place(array: np.ndarray) -> tuple[int, int]:
    return int(array.ctypes.data), int(array.nbytes)


def _is_plain(array: np.ndarray) -> bool:
    """Whether the library can write its elements where the array has them."""
    element = element_type(array)
    return (
        element is not None
        and element.bits >= 8
        and array.nbytes > 0
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.flags.writeable
    )


def _require_same(name: str, kind: np.dtype, shape: Sequence[int], target: np.ndarray) -> None:
    if target.dtype != kind or target.shape != tuple(shape):
        raise InvalidArgument(
            f"output '{name}' is {kind}{list(shape)}; bound was memory for {target.dtype}{list(target.shape)}"
        )


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: Any = None) -> None:
    """Copies the array of each box of `src` into that of the box of `dst`."""
    for source, target in zip(src, dst, strict=True):
        target.update_inplace(source._array())


__all__ = ["IOBinding", "OrtDevice", "OrtValue", "copy_tensors"]
