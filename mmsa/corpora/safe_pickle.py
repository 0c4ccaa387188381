"""Reading pickles of NumPy arrays without running anything that is in them.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the program names.
This one is another machine: it knows the instructions that build plain values, and seven names of NumPy's, each of
which stands for code in this file. No name is ever imported, and nothing of NumPy's own unpickling runs, which trusts
shapes and lengths that it reads.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.pickle_values import (
    ALLOWED_NAMES,
    DTYPE,
    BrokenError,
    ForbiddenError,
    array_from_bytes,
    as_bytes,
    checked_shape,
    dtype_from_state,
    fetched_numbers,
    shown,
)
from mmsa.errors import UsageError

MAX_BYTES = 32 * 2**30
"""Largest file read unless told otherwise; the largest of the field's, MOSEI's unaligned features, has about 13 GB."""

ALLOWANCE = 16
"""Bytes that may be made per byte of the file, beside what the file holds: bounds what a small file can grow to."""

Transform = Callable[[Any, Any], Any]


def load_numpy_pickle(path: Path | str, *, max_bytes: int = MAX_BYTES, transform: Transform | None = None) -> Any:
    """Read a pickle that holds NumPy arrays, NumPy scalars and plain values.

    Plain values are list, dict, tuple, str, int, float, bytes (bytearrays become bytes), bool and None. Pickles of
    protocol 2 to 5, of either NumPy 1 or 2, and of Python 2 (whose byte strings are read as Latin-1) are understood.
    Arrays of numbers and of fixed-width strings are read-only views of what was read.

    Args:
        path: the file.
        max_bytes: refuse larger files; what is built stays within a small multiple of the file's size.
        transform: called with the key and the value of each item of a dictionary once the value is complete; what it
            returns stands in the dictionary instead. Where it returns less, memory is given back as the file is read,
            at the price of reading it twice.

    Raises:
        UsageError: the file cannot be read, is too large, is no pickle, or holds or names anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size > max_bytes:
                raise UsageError(
                    f"{path} has {size:,} bytes, more than the {max_bytes:,} that are read: raise max_bytes"
                )
            if size == 0:
                raise UsageError(f"{path} is empty, not a pickle")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if transform is None:
                    return _Machine(size).run(content)
                fetched = fetched_numbers(content)
                content.seek(0)
                return _Machine(size, transform, fetched).run(content)
    except ForbiddenError as error:
        raise UsageError(
            f"{path} {error}. Only NumPy arrays and plain values are read from pickles, and nothing in them is run: "
            "if you trust the file, save its arrays alone, from the tool that made it"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (
        BrokenError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        struct.error,
    ) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is not a pickle that can be read: {error}. Fetch it again?") from None
    except MemoryError:
        raise UsageError(f"{path} does not fit into memory") from None


@dataclass(frozen=True)
class _Name:
    """A name the pickle gave, allowed; `role` is what it stands for."""

    role: str


@dataclass(eq=False)
class _Pending:
    """An array or dtype that was announced and whose content is still to come."""

    role: str
    base: str = ""
    memo_keys: list[int] = field(default_factory=list)


_REFUSED = {
    "PERSID": "refers to a persistent object",
    "BINPERSID": "refers to a persistent object",
    "EXT1": "uses a copyreg extension code",
    "EXT2": "uses a copyreg extension code",
    "EXT4": "uses a copyreg extension code",
    "NEXT_BUFFER": "refers to data outside the file",
    "READONLY_BUFFER": "refers to data outside the file",
    "EMPTY_SET": "holds a set",
    "FROZENSET": "holds a frozenset",
    "ADDITEMS": "holds a set",
    "OBJ": "builds an object",
    "NEWOBJ": "builds an object",
    "NEWOBJ_EX": "builds an object",
    "DUP": "copies its stack, as no pickler does",
}

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)


class _Machine:
    """The stack machine.

    Args:
        size: bytes of the file; what may be made of it is a multiple.
        transform: of the values of dictionaries.
        fetched: numbers of the values that the pickle fetches again; others are not remembered. None remembers all.
    """

    def __init__(self, size: int, transform: Transform | None = None, fetched: frozenset[int] | None = None) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.pending = 0
        self.left = ALLOWANCE * size + 4096
        self.transform = transform
        self.fetched = fetched
        self.memoized = 0

    def run(self, content: Any) -> Any:
        """Follow the instructions to the end and return what was built."""
        for opcode, argument, _ in pickletools.genops(content):
            name = opcode.name
            if name == "STOP":
                break
            if name in _LITERALS:
                self.stack.append(argument)
                if isinstance(argument, bytes) and len(argument) >= 2**20:
                    content.madvise(mmap.MADV_DONTNEED)  # an array was copied: its pages need not stay in memory
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name == "INST":
                raise ForbiddenError(f"names {shown(str(argument).replace(' ', '.'))}")
            elif name in _REFUSED:
                raise ForbiddenError(_REFUSED[name])
            elif name not in ("PROTO", "FRAME"):
                raise BrokenError(f"unknown instruction {name}")
        if self.outer or len(self.stack) != 1 or self.pending:
            raise BrokenError("it ends too early")
        return self._value(self.stack[0])

    def spend(self, count: int) -> None:
        """Account for bytes that are made and do not stand in the file."""
        self.left -= count
        if self.left < 0:
            raise ForbiddenError("would grow to many times its size")

    @staticmethod
    def _value(value: Any) -> Any:
        """A value for a container or for the caller: a name, alone or in front of arguments, is none."""
        if isinstance(value, _Name) or (isinstance(value, tuple) and value and isinstance(value[0], _Name)):
            raise ForbiddenError("holds a class or function as a value")
        return value

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        """Names stand only in front, as `_reconstruct` takes its class: elsewhere, and deeper, they are refused."""
        head = items[:1] if items and isinstance(items[0], _Name) else [self._value(item) for item in items[:1]]
        return (*head, *(self._value(item) for item in items[1:]))

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    # ---- memory of values by number

    def memoize(self, _: Any) -> None:
        self.put(self.memoized)

    def put(self, key: int) -> None:
        value = self.stack[-1]
        self.memoized += int(key) not in self.memo
        if self.fetched is not None and int(key) not in self.fetched:
            return
        if isinstance(value, _Pending):
            value.memo_keys.append(int(key))
        self.memo[int(key)] = value

    def get(self, key: int) -> None:
        value = self.memo[int(key)]
        if isinstance(value, _Pending):
            raise ForbiddenError("holds an array that contains itself")
        self.stack.append(value)

    # ---- containers

    def make_list(self, _: Any) -> None:
        self.stack.append([])

    def make_dict(self, _: Any) -> None:
        self.stack.append({})

    def list_since_mark(self, _: Any) -> None:
        items = [self._value(item) for item in self.since_mark()]
        self.stack.append(items)

    def dict_since_mark(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append({})
        self._set_items(items)

    def tuple_since_mark(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append(self._tuple(items))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise BrokenError("a tuple is longer than what there is")
        self.stack[-count:] = [self._tuple(self.stack[-count:])]

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self._top(list).append(self._value(item))

    def appends(self, _: Any) -> None:
        items = self.since_mark()
        self._top(list).extend(self._value(item) for item in items)

    def set_item(self, _: Any) -> None:
        value = self.stack.pop()
        self._set_items([self.stack.pop(), value])

    def set_items(self, _: Any) -> None:
        self._set_items(self.since_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a tuple goes as deep as the tuple does, on a stack that a file must not be able to exhaust.
            if not isinstance(key, str | bytes | int | float | np.generic | None):
                raise ForbiddenError(f"has a {type(key).__name__} as a dictionary's key")
            value = self._value(value)
            target[key] = value if self.transform is None else self.transform(key, value)

    def _top(self, kind: type[Any]) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise BrokenError(f"items for a {type(self.stack[-1]).__name__}, which is no {kind.__name__}")
        return self.stack[-1]

    # ---- names and what they stand for

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(module, name)

    def name_from_stack(self, _: Any) -> None:
        name = self.stack.pop()
        self._push_name(self.stack.pop(), name)

    def _push_name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise BrokenError("a name is no text")
        if (module, name) not in ALLOWED_NAMES:
            raise ForbiddenError(f"names {shown(f'{module}.{name}')}")
        self.stack.append(_Name(ALLOWED_NAMES[module, name]))

    def reduce(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise BrokenError("something is called that is no function")
        self.stack.append(self._call(name.role, arguments))

    def _call(self, role: str, arguments: tuple[Any, ...]) -> Any:
        """What stands behind each allowed name; the arguments are checked as if an enemy had chosen them."""
        match role, arguments:
            case "bytes", ():
                return b""
            case "bytes", (bytes() as data,):
                return data
            case "bytes" | "encode", (str() as text, "latin1" | "latin-1"):
                self.spend(len(text))
                return text.encode("latin-1")
            case "dtype", (str() as code, *_) if DTYPE.fullmatch(code):
                self.pending += 1
                return _Pending("dtype", code)
            case "dtype", (code, *_):
                raise ForbiddenError(f"has an array of type {str(code)[:40]!r}")
            case "reconstruct", (_Name("ndarray"), (0,), b"b" | "b"):
                self.pending += 1
                return _Pending("array")
            case "scalar", (np.dtype() as dtype, bytes() | str() as data) if dtype.kind != "O":
                return array_from_bytes(as_bytes(data), dtype, (), "C")[()]
            case "frombuffer", (bytes() as data, np.dtype() as dtype, tuple() as shape, "C" | "F" as order):
                return array_from_bytes(data, dtype, shape, order)
        raise ForbiddenError(f"calls NumPy's {role!r} in a way that NumPy does not")

    def build(self, _: Any) -> None:
        """Give an announced array or dtype its content, wherever it is remembered."""
        state, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, _Pending) or not isinstance(state, tuple):
            raise ForbiddenError("sets the state of an object")
        made = dtype_from_state(target.base, state) if target.role == "dtype" else self._array(state)
        self.pending -= 1
        for key in target.memo_keys:
            self.memo[key] = made
        self.stack.append(made)

    def _array(self, state: tuple[Any, ...]) -> NDArray[Any]:
        match state:
            case (int(), tuple() as shape, np.dtype() as dtype, bool() | int() as fortran, list() as items):
                if dtype.kind != "O" or math.prod(checked_shape(shape)) != len(items):
                    raise BrokenError(f"an array of shape {shape} with {len(items)} objects")
                self.spend(8 * len(items))
                flat = np.empty(len(items), object)
                for i, item in enumerate(items):  # assigned at once, lists among them would become dimensions
                    flat[i] = item
                return flat.reshape(shape, order="F" if fortran else "C")
            case (int(), tuple() as shape, np.dtype() as dtype, bool() | int() as fortran, bytes() | str() as data):
                return array_from_bytes(as_bytes(data), dtype, shape, "F" if fortran else "C")
        raise BrokenError("the content of an array is not as NumPy writes it")


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "EMPTY_LIST": _Machine.make_list,
    "EMPTY_DICT": _Machine.make_dict,
    "LIST": _Machine.list_since_mark,
    "DICT": _Machine.dict_since_mark,
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BYTEARRAY8": lambda machine, data: machine.stack.append(bytes(data)),
}
