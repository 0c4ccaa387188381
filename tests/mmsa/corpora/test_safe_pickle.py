from __future__ import annotations

import contextlib
import copyreg
import io
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mmsa.corpora import safe_pickle
from mmsa.corpora.safe_pickle import load_numpy_pickle
from mmsa.errors import UsageError

Write = Callable[[bytes], Path]
RAN: list[str] = []


def ran(what: str = "it") -> str:
    """What a payload would call; nothing here may."""
    RAN.append(what)
    return what


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: bytes) -> Path:
        path = tmp_path / "features.pkl"
        path.write_bytes(content)
        return path

    return written


@pytest.fixture(autouse=True)
def _nothing_ran() -> Any:
    RAN.clear()
    yield
    assert RAN == []


def same(found: Any, given: Any) -> bool:
    """Equal in values and, but for bytearrays, in types, all the way down."""
    if isinstance(given, bytearray):
        given = bytes(given)
    if type(found) is not type(given):
        return False
    if isinstance(given, np.ndarray):
        if found.dtype != given.dtype or found.shape != given.shape:
            return False
        if given.dtype.kind == "O":
            return all(same(a, b) for a, b in zip(found.ravel(), given.ravel(), strict=True))
        return bool(found.tobytes() == given.tobytes())
    if isinstance(given, dict):
        return list(found) == list(given) and all(same(found[key], given[key]) for key in given)
    if isinstance(given, list | tuple):
        return len(found) == len(given) and all(same(a, b) for a, b in zip(found, given, strict=True))
    return bool(found == given or (found != found and given != given))


def objects(*items: Any) -> Any:
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array


HONEST: dict[str, Any] = {
    "plain": [
        None,
        True,
        False,
        0,
        -1,
        255,
        65536,
        2**31,
        -(2**80),
        1.5,
        float("inf"),
        "é\n",
        b"",
        b"\x00\xff",
        (),
        (1,),
    ],
    "long": ["x" * 300, b"y" * 300, list(range(2000)), {str(i): i for i in range(2000)}, (1, 2, 3, 4, (5, 6))],
    "bytearray": bytearray(b"abc"),
    "empty bytearray": bytearray(),
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "slice": np.arange(24)[::3],
    "big endian": np.arange(5, dtype=">f8"),
    "bool": np.array([True, False]),
    "half and complex": [np.ones(2, np.float16), np.ones(2, np.complex128)],
    "no items": np.zeros((0, 50, 5)),
    "no dimensions": np.array(3.5),
    "strings": np.array(["a", "lönger"]),
    "byte strings": np.array([b"a", b"longer"]),
    "objects": objects("text", 3, None, [1, [2]], np.arange(3), {"a": (1,)}, objects("deep")),
    "scalars": [np.float32(2.5), np.int64(-7), np.bool_(True), np.str_("word")],
    "shared": [np.arange(3)] * 3,
    "nested": {"train": {"audio": np.ones((2, 3, 4)), "raw_text": np.array(["a", "b"])}, "config": {"a": [{}]}},
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", HONEST)
def test_what_numpy_writes_is_read(write: Write, key: str, protocol: int) -> None:
    assert same(load_numpy_pickle(write(pickle.dumps(HONEST[key], protocol))), HONEST[key])


def test_what_numpy_2_writes_is_read(write: Write) -> None:
    for protocol in (2, 4):
        content = pickle.dumps(HONEST["nested"], protocol)
        if protocol == 2:
            content = content.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
        else:
            content = pickle.dumps(np.ones(3), 4)
            length = b"\x8c" + bytes([len("numpy.core.multiarray")])
            frame = content.index(length)
            content = content.replace(length + b"numpy.core.multiarray", b"\x8c\x16numpy._core.multiarray")
            size = struct.unpack("<Q", content[3:11])[0] + 1
            content = content[:3] + struct.pack("<Q", size) + content[11:]
            assert frame > 0
        assert b"numpy._core" in content
        found = load_numpy_pickle(write(content))
        assert same(found, HONEST["nested"] if protocol == 2 else np.ones(3))


def test_what_python_2_wrote_is_read(write: Write) -> None:
    """Byte strings as SHORT_BINSTRING, array data among them, as Python 2 wrote at protocol 2."""
    data = np.array([1.0, -2.5], "<f8").tobytes()
    content = (
        b"\x80\x02}U\x04textcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + data
        + b"tbs."
    )
    found = load_numpy_pickle(write(content))
    assert list(found) == ["text"]
    assert found["text"].tolist() == [1.0, -2.5]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    array=npst.arrays(
        st.sampled_from(["<f4", "<f8", ">f4", "<i8", "|b1", "<U3", "|S3"]), npst.array_shapes(min_dims=0, min_side=0)
    ),
    protocol=st.integers(2, 5),
    fortran=st.booleans(),
)
def test_any_array_comes_back(array: Any, protocol: int, fortran: bool, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    given = np.asfortranarray(array) if fortran else array
    path.write_bytes(pickle.dumps(given, protocol))
    assert same(load_numpy_pickle(path), given)


def test_arrays_share_memory_with_what_was_read_and_cannot_be_changed(write: Write) -> None:
    assert not load_numpy_pickle(write(pickle.dumps(np.ones(4), 4))).flags.writeable


class Reduces:
    """Pickles as a call of a function."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


class Plain:
    """A class with a state."""

    def __init__(self) -> None:
        self.x = 1

    def __setstate__(self, state: Any) -> None:
        ran("setstate")


def by_name(module: str, name: str, *arguments: str) -> bytes:
    """A call by name, as it need not be importable here."""
    words = b"".join(b"X" + struct.pack("<I", len(a)) + a.encode() for a in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + words + b"tR."


MALICIOUS: dict[str, tuple[Any, str]] = {
    "os.system": (Reduces(os.system, ("touch pwned",)), r"names posix\.system"),
    "builtins.eval": (Reduces(eval, ("print(1)",)), r"names (builtins|__builtin__)\.eval"),
    "builtins.getattr": (Reduces(getattr, ("a", "upper")), r"names (builtins|__builtin__)\.getattr"),
    "a function of the user's": (Reduces(ran, ()), r"names \S*\.ran"),
    "in a list": ([1, [Reduces(os.system, ("true",))]], r"names posix\.system"),
    "as a dictionary's value": ({"train": {"text": Reduces(os.system, ("true",))}}, r"names posix\.system"),
    "in an object array": (objects("a", Reduces(os.system, ("true",))), r"names posix\.system"),
    "in an object array in one": (objects(objects(Reduces(eval, ("1",)))), r"names (builtins|__builtin__)\.eval"),
    "an object": (Plain(), r"names (\S*\.Plain|copy_reg\._reconstructor|copyreg\._reconstructor)"),
    "a class alone": ([Plain], r"names \S*\.Plain"),
    "a set": ([{1, 2}], r"(holds a set|names (builtins|__builtin__)\.set)"),
    "a frozenset": ([frozenset({1})], r"(holds a frozenset|names (builtins|__builtin__)\.frozenset)"),
    "an ordered dictionary": (OrderedDict(a=1), r"names collections\.OrderedDict"),
    "a complex number": (1j, r"names (builtins|__builtin__)\.complex"),
    "a structured array": (np.zeros(2, [("a", "f4")]), r"has an array of type 'V4'"),
    "dates": (np.zeros(2, "M8[s]"), r"has an array of type 'M8'"),
    "a matrix": (np.ones((2, 2)).view(np.matrix), r"names numpy\.\S*matrix"),
    "a tuple as a key": ({(1, 2): 3}, r"has a tuple as a dictionary's key"),
    "a class of numpy's": ([np.ndarray], r"holds a class or function as a value"),
    "a class of numpy's in a tuple": ([(1, np.ndarray)], r"holds a class or function as a value"),
    "a class of numpy's first in a tuple": ([(np.ndarray, 1)], r"holds a class or function as a value"),
    "a class of numpy's deep in tuples": ([(1, ((np.ndarray,), 1))], r"holds a class or function as a value"),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", MALICIOUS)
def test_anything_else_is_refused_and_named(
    write: Write, key: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    payload, message = MALICIOUS[key]
    path = write(pickle.dumps(payload, protocol))
    with pytest.raises(UsageError, match=rf"{message}.*nothing in them is run"):
        load_numpy_pickle(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "load"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.f2py", "compile"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core._multiarray_umath", "_reconstruct"),
        ("no.such.module", "thing"),
        ("mmsa.corpora.safe_pickle", "_Machine"),
    ],
)
def test_functions_of_numpy_that_arrays_do_not_need_are_refused(write: Write, module: str, name: str) -> None:
    with pytest.raises(UsageError, match=rf"names {module}\.{name}\."):
        load_numpy_pickle(write(by_name(module, name, "x")))


@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_persistent_ids_are_refused(write: Write, protocol: int) -> None:
    class Persistent(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return "here" if isinstance(obj, Reduces) else None

    content = io.BytesIO()
    Persistent(content, protocol).dump([Reduces()])
    with pytest.raises(UsageError, match="refers to a persistent object"):
        load_numpy_pickle(write(content.getvalue()))


@pytest.mark.parametrize("code", [7, 300, 70000])
def test_extension_codes_are_refused_even_where_they_are_registered(write: Write, code: int) -> None:
    copyreg.add_extension(__name__, "ran", code)
    try:
        content = pickle.dumps(Reduces(ran, ()), 2)
        assert b"ran" not in content
        for attempt in (content, content.replace(b"R.", b"0].")):
            with pytest.raises(UsageError, match="uses a copyreg extension code"):
                load_numpy_pickle(write(attempt))
    finally:
        copyreg.remove_extension(__name__, "ran", code)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
ORDER = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
FLOAT = b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87R" + ORDER
OBJECT = FLOAT.replace(b"f8", b"O8").replace(b"\x00<N", b"\x00|N")
HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x01"  # 2 ** 40

HAND_MADE: dict[str, tuple[bytes, str]] = {
    "INST": (b"(S'true'\nios\nsystem\n.", r"names os\.system"),
    "OBJ": (b"(cnumpy\nndarray\no.", "builds an object"),
    "NEWOBJ": (b"\x80\x02cnumpy\nndarray\n)\x81.", "builds an object"),
    "a state for a class": (b"\x80\x02cnumpy\ndtype\n}b.", "sets the state of an object"),
    "a state for a list": (b"\x80\x02]}b.", "sets the state of an object"),
    "a state with attributes": (b"\x80\x02cnumpy\ndtype\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "sets the state of an"),
    "a huge array announced": (
        b"\x80\x03" + ARRAY.replace(b"K\x00\x85", HUGE + b"\x85") + b".",
        "calls NumPy's 'reconstruct' in a way",
    ),
    "a huge array of few bytes": (
        b"\x80\x03" + ARRAY + b"(K\x01" + HUGE + b"\x85" + FLOAT + b"\x89C\x00tb.",
        "with 0 bytes",
    ),
    "a shape that overflows": (
        b"\x80\x03" + ARRAY + b"(K\x01\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85" + FLOAT + b"\x89C\x00tb.",
        "an array of shape",
    ),
    "a negative shape": (b"\x80\x03" + ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + FLOAT + b"\x89C\x00tb.", "of shape"),
    "fewer objects than the shape": (
        b"\x80\x03" + ARRAY + b"(K\x01K\x05\x85" + OBJECT + b"\x89]K\x01atb.",
        r"shape \(5,\) with 1 objects",
    ),
    "addresses for objects": (
        b"\x80\x03" + ARRAY + b"(K\x01K\x01\x85" + OBJECT + b"\x89C\x08AAAAAAAAtb.",
        "addresses of objects",
    ),
    "an object scalar": (
        b"\x80\x03cnumpy.core.multiarray\nscalar\n" + OBJECT + b"C\x08AAAAAAAA\x86R.",
        "calls NumPy's 'scalar' in a way",
    ),
    "items without bytes": (
        b"\x80\x03" + ARRAY + b"(K\x01" + HUGE + b"\x85" + FLOAT.replace(b"f8", b"U0") + b"\x89C\x00tb.",
        "whose items have no bytes",
    ),
    "an array that contains itself": (
        b"\x80\x03" + ARRAY + b"q\x00(K\x01K\x01\x85" + OBJECT + b"\x89]h\x00atb.",
        "contains itself",
    ),
    "an array without content": (b"\x80\x03]" + ARRAY + b"a.", "it ends too early"),
    "another encoding": (by_name("_codecs", "encode", "x", "rot13"), "calls NumPy's 'encode' in a way"),
    "a byte string longer than the file": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"ab.", "is not a pickle"),
    "a byte array longer than the file": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"ab.", "is not a pickle"),
    "data outside the file": (b"\x80\x05\x97.", "refers to data outside the file"),
    "a memory that was never filled": (b"\x80\x02h\x07.", "is not a pickle"),
    "an empty stack": (b"\x80\x02R.", "is not a pickle"),
    "no mark": (b"\x80\x02t.", "is not a pickle"),
    "items for no list": (b"\x80\x02K\x01K\x02a.", "items for a int"),
    "no end": (b"\x80\x02K\x01", "is not a pickle"),
    "two values": (b"\x80\x02K\x01K\x02.", "it ends too early"),
    "text": (b"video_id,clip_id,text\n", "is not a pickle"),
    "escapes for a terminal": (b"\x80\x02c\x1b[31mos\nsystem\n.", r"names \\x1b\[31mos\.system"),
    "a digit bomb": (b"I" + b"9" * 100_000 + b"\n.", "is not a pickle"),
}


@pytest.mark.parametrize("key", HAND_MADE)
def test_pickles_that_no_pickler_writes_are_refused(write: Write, key: str) -> None:
    content, message = HAND_MADE[key]
    with pytest.raises(UsageError, match=message):
        load_numpy_pickle(write(content))


def test_a_small_file_cannot_grow_large(write: Write) -> None:
    """One list of a thousand, made into an object array again and again."""
    array = ARRAY + b"(K\x01M\xe8\x03\x85h\x01\x89h\x02tb"
    head = b"\x80\x03" + OBJECT + b"q\x010](" + b"N" * 1000 + b"eq\x020]("
    assert len(load_numpy_pickle(write(head + array * 2 + b"e."))) == 2
    with pytest.raises(UsageError, match="would grow to many times its size"):
        load_numpy_pickle(write(head + array * 1000 + b"e."))


def test_deep_nesting_is_read_without_recursion(write: Write) -> None:
    found = load_numpy_pickle(write(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."))
    depth = 0
    while found:
        (found,) = found
        depth += 1
    assert depth == 99_999


@settings(deadline=None, derandomize=True, max_examples=150)
@given(data=st.data())
def test_damaged_files_are_refused_or_read_but_never_run(data: Any, tmp_path_factory: Any) -> None:
    content = bytearray(pickle.dumps([np.arange(3.0), "text", {"a": (1, b"x")}, Reduces(ran, ())], 4))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        load_numpy_pickle(path)
    assert RAN == []


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_values_of_dictionaries_can_be_changed_as_they_are_read(write: Write, protocol: int) -> None:
    shared = np.arange(3.0)
    data = {"a": {"keep": [shared, [1, 2]], "drop": [[9] * 5]}, "b": {"keep": [shared], "drop": "x"}, "c": {}}
    seen = []

    def transform(key: Any, value: Any) -> Any:
        seen.append(key)
        return {"drop": None, "keep": value[0] if key == "keep" else None}.get(key, value)

    found = load_numpy_pickle(write(pickle.dumps(data, protocol)), transform=transform)
    assert sorted(seen) == ["a", "b", "c", "drop", "drop", "keep", "keep"]
    assert {key: list(value) for key, value in found.items()} == {key: list(value) for key, value in data.items()}
    assert found["a"]["drop"] is None
    assert found["b"]["keep"].tolist() == [0, 1, 2]
    assert found["a"]["keep"] is found["b"]["keep"]  # remembered, as the pickle fetches it again


def test_what_is_dropped_as_it_is_read_takes_no_memory(write: Write) -> None:
    """Fifty lists of a thousand numbers, of which the machine would remember each."""
    path = write(pickle.dumps({i: {"drop": [float(n) for n in range(1000)]} for i in range(50)}, 4))

    def peak(transform: Any) -> int:
        tracemalloc.start()
        load_numpy_pickle(path, transform=transform)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(lambda key, value: None if key == "drop" else value) < peak(None) / 10


def test_files_that_cannot_be_read_are_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*gone\.pkl: No such file"):
        load_numpy_pickle(tmp_path / "gone.pkl")
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        load_numpy_pickle(tmp_path)
    with pytest.raises(UsageError, match="is empty, not a pickle"):
        load_numpy_pickle(write(b""))
    with pytest.raises(UsageError, match="has 10 bytes, more than the 9 that are read: raise max_bytes"):
        load_numpy_pickle(write(b"\x80\x02K\x01K\x02\x86q\x00."), max_bytes=9)
    assert load_numpy_pickle(write(b"\x80\x02K\x01K\x02\x86q\x00."), max_bytes=10) == (1, 2)


def test_every_instruction_is_read_or_refused() -> None:
    import pickletools

    known = {*safe_pickle._STEPS, *safe_pickle._REFUSED, *safe_pickle._LITERALS, *safe_pickle._CONSTANTS}
    assert {op.name for op in pickletools.opcodes} == known | {"STOP", "PROTO", "FRAME", "INST"}
