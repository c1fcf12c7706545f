"""Samples of a calibration, one at a time: from iterables, functions, arrays that hold many, archives of such."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ._errors import InvalidArgument, NoSuchFile
from ._session import NodeArg

#: What `calibrate` may be.
Calibration = Iterable[Any] | Callable[[], Iterable[Any]] | np.ndarray | str | os.PathLike[str]


class Samples:
    """Hands out samples as often as somebody wants; of an iterator, which can be gone through once, the first `kept`
    samples can be had again.

    The first sample is asked for at once, so that what a program starts with it (processes, say) starts outside of
    calls of the library."""

    def __init__(self, data: Calibration, inputs: Sequence[NodeArg], kept: int) -> None:
        self._inputs = inputs
        self._make, self.count = _source(data, inputs)
        self._is_single = isinstance(data, Iterator)
        self._iterator = self._make()
        # Of an iterator: the first samples, and whether there were more than these.
        self._kept: list[dict[str, Any]] = []
        self._room = kept if self._is_single else 0
        self._has_dropped = False
        self._passes = 0
        self._number = 0
        self._first = [self._take()]

    def restart(self) -> None:
        self._passes += 1
        self._number = 0
        if self._passes == 1:
            return
        self._first = []
        if not self._is_single:
            self._iterator = self._make()

    def next(self) -> dict[str, Any] | None:
        """The next sample; None after the last."""
        number = self._number
        self._number += 1
        if self._first and number == 0:
            return self._first.pop()
        if self._is_single and self._passes > 1:
            if number < len(self._kept):
                return self._kept[number]
            if self._has_dropped:
                raise InvalidArgument(
                    "calibrate is an iterator, which can be gone through once, and the options need all samples again; "
                    "give a list, or a function that returns an iterator"
                )
        return self._take(number)

    def _take(self, number: int = 0) -> dict[str, Any] | None:
        try:
            item = next(self._iterator)
        except StopIteration:
            return None
        sample = self._named(item, number)
        if len(self._kept) < self._room:
            self._kept.append({name: np.array(value) for name, value in sample.items()})
        else:
            self._has_dropped = True
        return sample

    def _named(self, item: Any, number: int) -> dict[str, Any]:
        """A sample as a dictionary; that of a model with one input may be the value itself."""
        if isinstance(item, Mapping):
            if item:
                return dict(item)
        elif len(self._inputs) == 1 and item is not None:
            return {self._inputs[0].name: item}
        names = ", ".join(f"'{arg.name}'" for arg in self._inputs)
        found = "empty" if isinstance(item, Mapping) else type(item).__name__
        raise InvalidArgument(f"sample {number + 1} is {found}; expected a dictionary with a value for {names}")


def _source(data: Any, inputs: Sequence[NodeArg]) -> tuple[Callable[[], Iterator[Any]], int]:
    """A function that begins anew, and how many samples there are; -1 where that is not known."""
    if isinstance(data, (str, os.PathLike)):
        return _stacked(_archive(os.fspath(data)), inputs)
    if isinstance(data, np.ndarray):
        if len(inputs) != 1:
            raise InvalidArgument(f"calibrate is an array; the model has {len(inputs)} inputs, so give a dictionary")
        data = {inputs[0].name: data}
    if isinstance(data, Mapping):
        return _stacked({name: Stack(np.asarray(array)) for name, array in data.items()}, inputs)
    if not isinstance(data, Iterable):
        if callable(data):
            return lambda: iter(data()), -1
        raise InvalidArgument(
            f"calibrate is {type(data).__name__}; expected samples one by one, arrays of samples by name, a function "
            "that returns an iterator, or the path of an .npz file"
        )
    try:
        count = len(data)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    return lambda: iter(data), count


class Stack:
    """An array whose rows are gone through in order."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape = array.shape

    def whole(self) -> np.ndarray:
        return self._array

    def rows(self, size: int) -> Iterator[np.ndarray]:
        """So many entries of the first axis at a time."""
        for start in range(0, self.shape[0], size):
            yield self._array[start : start + size]


class StoredStack(Stack):
    """An array in an archive, of which one piece at a time is read."""

    def __init__(self, path: str, member: str) -> None:
        self._path, self._member = path, member
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            self.shape, self._is_fortran, self._dtype = self._header(file)

    @staticmethod
    def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)

    def whole(self) -> np.ndarray:
        with np.load(self._path, allow_pickle=False) as archive:
            return np.asarray(archive[self._member.removesuffix(".npy")])

    def rows(self, size: int) -> Iterator[np.ndarray]:
        if self._is_fortran or self._dtype.hasobject:
            yield from Stack(self.whole()).rows(size)
            return
        shape = (size, *self.shape[1:])
        count = int(np.prod(shape)) * self._dtype.itemsize
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
            self._header(file)
            for _ in range(self.shape[0] // size):
                piece = file.read(count)
                if len(piece) < count:
                    raise InvalidArgument(f"{self._path}: '{self._member}' is shorter than its shape says")
                yield np.frombuffer(piece, self._dtype).reshape(shape)


def _archive(path: str) -> dict[str, Stack]:
    """The arrays of an .npz file by name."""
    if not path.endswith(".npz"):
        raise InvalidArgument(f"calibrate is {path!r}; expected an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
        return {name.removesuffix(".npy"): StoredStack(path, name) for name in members}
    except OSError as error:
        raise NoSuchFile(f"{path} cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError) as error:
        raise InvalidArgument(f"{path} is no .npz file: {error}") from None


def _stacked(stacks: Mapping[str, Stack], inputs: Sequence[NodeArg]) -> tuple[Callable[[], Iterator[Any]], int]:
    """Samples of arrays that hold many: along an axis more than the input has, or along the input's own first axis
    where that is symbolic, 1, or a part of the array's. An array with the shape of its input is the same in all."""
    known = {arg.name: arg for arg in inputs}
    counts: dict[str, int] = {}
    makers: dict[str, Callable[[], Iterator[np.ndarray]]] = {}

    def pieces(stack: Stack, rows: int, keeps_axis: bool) -> Iterator[np.ndarray]:
        while rows == 0:
            yield stack.whole()
        for piece in stack.rows(rows):
            yield piece if keeps_axis else piece[0]

    for name, stack in stacks.items():
        if name not in known:
            raise InvalidArgument(f"calibrate has '{name}'. Inputs are: {', '.join(known)}")
        rows, keeps_axis = _rows(stack.shape, known[name])
        makers[name] = partial(pieces, stack, rows, keeps_axis)
        if rows > 0:
            counts[name] = stack.shape[0] // rows
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of '{name}'" for name, count in counts.items())
        raise InvalidArgument(f"calibrate has different numbers of samples: {found}")
    count = min(counts.values(), default=1)

    def samples() -> Iterator[dict[str, np.ndarray]]:
        iterators = {name: make() for name, make in makers.items()}
        for _ in range(count):
            yield {name: next(iterator) for name, iterator in iterators.items()}

    return samples, count


def _rows(shape: tuple[int, ...], argument: NodeArg) -> tuple[int, bool]:
    """The entries of an array's first axis that are one sample, and whether they keep that axis; 0: the array is one
    sample."""

    def fits(extents: tuple[int, ...], wanted: list[int | str | None]) -> bool:
        return len(extents) == len(wanted) and all(
            not isinstance(want, int) or extent == want for extent, want in zip(extents, wanted, strict=True)
        )

    wanted, rank = argument.shape, argument.rank
    if rank is None:
        return 0, False
    if len(shape) == rank + 1 and fits(shape[1:], wanted):
        return 1, False
    if rank > 0 and len(shape) == rank and fits(shape[1:], wanted[1:]):
        rows = wanted[0] if isinstance(wanted[0], int) else 1
        if rows == 1 or (rows > 0 and shape[0] > rows and shape[0] % rows == 0):
            return rows, True
        if rows == shape[0]:
            return 0, False
    if rank == 0 and shape == ():
        return 0, False
    raise InvalidArgument(
        f"calibrate has '{argument.name}' of the shape {list(shape)}; expected samples of {argument.type} "
        f"{argument.shape}, one behind the other along the first axis or along one more"
    )
