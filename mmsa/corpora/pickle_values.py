"""Values of NumPy's out of a pickle: what stands in one is checked here as if an enemy had chosen it."""

from __future__ import annotations

import math
import pickletools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16)|[SU][0-9]{1,9}|O8?)")
"""Types of arrays: numbers, text of a fixed width, and objects."""


_CORE = ("numpy.core", "numpy._core")
ALLOWED_NAMES = {
    **{(f"{core}.multiarray", "_reconstruct"): "reconstruct" for core in _CORE},
    **{(f"{core}.multiarray", "scalar"): "scalar" for core in _CORE},
    **{(f"{core}.numeric", "_frombuffer"): "frombuffer" for core in _CORE},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
    ("builtins", "bytearray"): "bytes",
    ("__builtin__", "bytearray"): "bytes",
}
"""What a name in a pickle stands for here; `mmsa.corpora.safe_pickle` says what it does."""


class ForbiddenError(Exception):
    """A pickle holds what is never read from one."""


class BrokenError(Exception):
    """A pickle contradicts itself."""


def shown(text: str) -> str:
    """What a file says, fit for a terminal."""
    return text[:200].encode("unicode_escape").decode("ascii")


def as_bytes(data: bytes | str) -> bytes:
    """The bytes of an array; Python 2 wrote them as a string."""
    return data.encode("latin-1") if isinstance(data, str) else data


def checked_shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape, if it is one.

    Raises:
        BrokenError: it is none, or larger than any file.
    """
    if len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise BrokenError(f"an array of shape {str(shape)[:80]}")
    return shape


def array_from_bytes(data: bytes, dtype: np.dtype[Any], shape: tuple[Any, ...], order: Any) -> NDArray[Any]:
    """An array of numbers or text, as a read-only view of its bytes.

    Raises:
        ForbiddenError: its items would be addresses.
        BrokenError: shape, type and bytes disagree.
    """
    if dtype.kind == "O":
        raise ForbiddenError("has addresses of objects for data")
    if math.prod(checked_shape(shape)) * dtype.itemsize != len(data):
        raise BrokenError(f"an array of shape {shape} and type {dtype} with {len(data)} bytes")
    if dtype.itemsize == 0:
        raise BrokenError(f"an array of type {dtype}, whose items have no bytes")
    if not data:
        return np.zeros(shape, dtype, order)
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def dtype_from_state(code: str, state: tuple[Any, ...]) -> np.dtype[Any]:
    """A dtype without fields, sub-arrays or metadata, in its byte order.

    Raises:
        ForbiddenError: it has any of them.
    """
    match state:
        case (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
            return np.dtype(code).newbyteorder(order)
    raise ForbiddenError("has a structured array")


def fetched_numbers(content: Any) -> frozenset[int]:
    """Numbers of the values that a pickle fetches again after it has remembered them."""
    fetch = ("GET", "BINGET", "LONG_BINGET")
    return frozenset(int(str(key)) for opcode, key, _ in pickletools.genops(content) if opcode.name in fetch)
