from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmsa.corpora import csd as module
from mmsa.corpora.csd import ComputationalSequence, open_csd
from mmsa.errors import UsageError

# Ten steps of a tenth of a second from 1.0 s on, numbered.
NUMBERS = np.stack([np.arange(10.0), 100 + np.arange(10.0)], axis=1)


@pytest.fixture
def path(csd: Any, tmp_path: Path) -> Path:
    entries = {"abc-D_1": csd.steps(NUMBERS, 1.0, 0.1), "-other": csd.steps(NUMBERS[:3] + 0.5, 0.0, 0.5)}
    written: Path = csd.write(tmp_path / "made.csd", "COVAREP", entries, compression="gzip", compression_opts=9)
    return written


def test_a_file_of_the_sdk_is_described(path: Path) -> None:
    with open_csd(path) as sequence:
        assert (sequence.name, sequence.width, sequence.are_words) == ("COVAREP", 2, False)
        assert dict(sequence.videos) == {"-other": ("-other",), "abc-D_1": ("abc-D_1",)}
        assert sequence.intervals("-other").tolist() == [[0.0, 0.5], [0.5, 1.0], [1.0, 1.5]]
        assert sequence.features("-other")[:, 0].tolist() == [0.5, 1.5, 2.5]


def test_a_stretch_has_the_steps_that_share_time_with_it_cut_at_its_ends(path: Path) -> None:
    with open_csd(path) as sequence:
        found = sequence.between("abc-D_1", 1.25, 1.5)
    # Steps 2 (1.2 to 1.3), 3 and 4; step 5 starts where the stretch ends.
    assert found.values.tolist() == [[2, 102], [3, 103], [4, 104]]
    assert found.values.dtype == np.float32
    assert found.times == pytest.approx(np.array([[1.25, 1.3], [1.3, 1.4], [1.4, 1.5]]))
    assert found.not_finite == 0


@pytest.mark.parametrize(
    ("video", "start", "end"), [("abc-D_1", 0.0, 1.0), ("abc-D_1", 2.0, 9.0), ("absent", 0.0, 9.0)]
)
def test_a_stretch_without_steps_is_empty(path: Path, video: str, start: float, end: float) -> None:
    with open_csd(path) as sequence:
        found = sequence.between(video, start, end)
    assert (found.values.shape, found.times.shape) == ((0, 2), (0, 2))


def test_a_stretch_is_the_same_however_the_file_orders_and_divides_its_steps(csd: Any, path: Path) -> None:
    """Unsorted steps, and the entries `video[n]` that alignment in the SDK leaves, in an order without meaning."""
    values, times = csd.steps(NUMBERS, 1.0, 0.1)
    order = np.random.default_rng(1).permutation(10)
    shuffled = csd.write(path.parent / "b.csd", "x", {"abc-D_1": (values[order], times[order])})
    halves = {"abc-D_1[10]": (values[5:], times[5:]), "abc-D_1[9]": (values[:5], times[:5])}
    divided = csd.write(path.parent / "c.csd", "x", halves)
    with open_csd(path) as one, open_csd(shuffled) as two, open_csd(divided) as three:
        assert three.videos["abc-D_1"] == ("abc-D_1[9]", "abc-D_1[10]")
        for start, end in ((0, 9), (1.15, 1.65), (1.5, 1.6)):
            expected = one.between("abc-D_1", start, end)
            for other in (two, three):
                found = other.between("abc-D_1", start, end)
                assert np.array_equal(found.values, expected.values)
                assert np.array_equal(found.times, expected.times)


def test_infinite_values_become_zero_and_are_counted(csd: Any, tmp_path: Path) -> None:
    values = np.array([[1.0, -np.inf], [np.nan, 1e300], [4.0, 5.0]])
    path = csd.write(tmp_path / "a.csd", "x", {"v": csd.steps(values, 0.0, 1.0)})
    with open_csd(path) as sequence:
        found = sequence.between("v", 0.0, 2.0)
    assert found.values.tolist() == [[1, 0], [0, 0]]
    assert found.not_finite == 3


def test_steps_with_times_that_are_none_belong_nowhere(csd: Any, tmp_path: Path) -> None:
    times = [[0.0, 1.0], [np.nan, 2.0], [2.0, 1.0], [3.0, np.inf], [4.0, 5.0]]
    path = csd.write(tmp_path / "a.csd", "x", {"v": (np.arange(5.0)[:, None], times)})
    with open_csd(path) as sequence:
        assert sequence.between("v", 0.0, 99.0).values[:, 0].tolist() == [0, 4]


def test_an_entry_may_be_a_single_step_without_its_dimension(csd: Any, tmp_path: Path) -> None:
    """As the SDK reads them."""
    path = csd.write(tmp_path / "a.csd", "x", {"v": (np.array([7.0, 8.0]), np.array([1.0, 2.0]))})
    with open_csd(path) as sequence:
        assert sequence.between("v", 0.0, 9.0).values.tolist() == [[7, 8]]
        assert sequence.features("v").tolist() == [[7, 8]]


@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_words_are_read_in_the_order_of_their_times_without_pauses(csd: Any, tmp_path: Path, kind: str) -> None:
    said, times = csd.words(("late", 2.0, 2.5), ("sp", 0.5, 0.6), ("café\n", 0.0, 0.5), ("b", 0.6, 1.0), ("", 1.0, 1.1))
    if kind == "variable":
        said = np.array([[word[0].decode()] for word in said], h5py.string_dtype())
    path = csd.write(tmp_path / "a.csd", "words", {"v": (said, times)})
    with open_csd(path) as sequence:
        assert sequence.are_words
        assert sequence.words("v", 0.0, 9.0) == ["café", "b", "late"]
        assert sequence.words("v", 0.7, 1.5) == ["b"]
        assert sequence.words("absent", 0.0, 9.0) == []
        with pytest.raises(
            UsageError, match=r"a\.csd is not a computational sequence that is read: entry v: features must be"
        ):
            sequence.between("v", 0.0, 9.0)


Spoil = Callable[[h5py.Group, Path], None]


def external_link(data: h5py.Group, folder: Path) -> None:
    data["v"] = h5py.ExternalLink(str(folder / "other.csd"), "/x/data/v")


def soft_link(data: h5py.Group, _: Path) -> None:
    data["v"] = h5py.SoftLink("/x/data/good")


def external_storage(data: h5py.Group, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(range(64)))
    group = data.create_group("v")
    group.create_dataset("features", (4, 2), "f8", external=[(str(folder / "secret"), 0, 64)])
    group["intervals"] = np.zeros((4, 2))


def virtual(data: h5py.Group, folder: Path) -> None:
    group = data.create_group("v")
    layout = h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (4, 2))
    group.create_virtual_dataset("features", layout)
    group["intervals"] = np.zeros((4, 2))


def entry(features: Any, intervals: Any = None, **options: Any) -> Spoil:
    def spoil(data: h5py.Group, _: Path) -> None:
        group = data.create_group("v")
        group.create_dataset("features", data=features, **options)
        group.create_dataset("intervals", data=np.zeros((4, 2)) if intervals is None else intervals)

    return spoil


def bare(name: str, shape: Any, dtype: Any = "f8", **options: Any) -> Spoil:
    """A shape without data, which HDF5 fills when it is read."""

    def spoil(data: h5py.Group, _: Path) -> None:
        group = data.create_group("v")
        for key in {"features", "intervals"} - {name}:
            group.create_dataset(key, (4, 2), "f8")
        group.create_dataset(name, shape, dtype, **options)

    return spoil


def unknown_filter(data: h5py.Group, _: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, 2))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # Zstandard, which HDF5 looks for in a library of its own
    group = data.create_group("v")
    space = h5py.h5s.create_simple((4, 2))
    h5py.h5d.create(group.id, b"features", h5py.h5t.IEEE_F64LE, space, plist)
    group["intervals"] = np.zeros((4, 2))


COMPOUND = np.zeros((4, 2), [("a", "f8")])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (external_link, "v in /x/data is a link to another place or file"),
        (soft_link, "v in /x/data is a link to another place or file"),
        (external_storage, "features in /x/data/v keeps its data in other files"),
        (virtual, "features in /x/data/v keeps its data in other files"),
        (unknown_filter, "features in /x/data/v is packed with filter 32015"),
        (entry(COMPOUND), "features in /x/data/v holds .*: only numbers and strings are read"),
        (bare("features", (4, 2), h5py.ref_dtype), "features in /x/data/v holds object"),
        (bare("features", (4, 2), h5py.vlen_dtype("f8")), "features in /x/data/v holds object"),
        (bare("features", (4, 2), "S100000"), "features in /x/data/v has items of 100,000 bytes"),
        (bare("features", (2**40, 2), chunks=(4, 2)), "1099511627776 features but 4 intervals"),
        (bare("intervals", (2**40, 2), chunks=(4, 2)), "1,099,511,627,776 steps, more than the 20,000,000"),
        (bare("features", (4, 2**21), chunks=(1, 1)), r"features must be \(T, D\), not \(4, 2097152\)"),
        (bare("features", (2**30, 2), chunks=(2**25, 2)), r"features in /x/data/v has chunks of \(33554432, 2\) items"),
        (entry(np.zeros((3, 2))), "entry v: 3 features but 4 intervals"),
        (entry(np.zeros((4, 3))), r"its entries differ in their features: 2 \(good\), 3 \(v\)"),
        (entry(np.full((4, 1), b"no", "S2")), r"its entries differ in their features: 2 \(good\), words \(v\)"),
        (entry(np.zeros((4, 2)), np.zeros((4, 3))), r"intervals must be \(T, 2\) numbers, not \(4, 3\)"),
        (entry(np.zeros((4, 2, 2))), r"features in /x/data/v must be \(T, D\), not \(4, 2, 2\)"),
        (entry(np.float64(1.0)), r"features in /x/data/v must be \(T, D\), not \(\)"),
        (lambda data, _: data.create_group("v"), "/x/data/v has no 'features'"),
        (lambda data, _: data.create_dataset("v", data=1.0), "v in /x/data is no group"),
        (lambda data, _: data.create_group("v/features"), "features in /x/data/v is no dataset"),
        (lambda data, _: h5py.h5g.create(data.id, b"\xff"), r"an entry is called"),
        (lambda data, _: data.create_group("a\x1b[31m"), r"an entry is called 'a\\\\x1b\[31m'"),
    ],
)
def test_what_is_never_read_is_refused_before_anything_is(csd: Any, tmp_path: Path, spoil: Spoil, message: str) -> None:
    path = csd.write(tmp_path / "a.csd", "x", {"good": csd.steps(NUMBERS[:4], 0.0, 1.0)})
    csd.write(tmp_path / "other.csd", "x", {"v": csd.steps(NUMBERS, 0.0, 1.0)})
    with h5py.File(path, "a") as file:
        spoil(file["x/data"], tmp_path)
    with (
        pytest.raises(UsageError, match=rf"a\.csd is not a computational sequence that is read: .*{message}"),
        open_csd(path),
    ):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, "it must hold one group, named after the sequence, not 0"),
        (lambda file: (file.create_group("a"), file.create_group("b")), "it must hold one group.*not 2"),
        (lambda file: file.create_dataset("a", data=1.0), "a in / is no group"),
        (lambda file: file.create_group("a"), "/a has no 'data'"),
        (lambda file: file.create_group("a/data"), "it has no entries"),
        (lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")), "a in / is a link to another"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    with h5py.File(tmp_path / "a.csd", "w") as file:
        make(file)
    with pytest.raises(UsageError, match=message), open_csd(tmp_path / "a.csd"):
        pass


def test_a_file_that_is_cut_short_says_so(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with (
        pytest.raises(UsageError, match=r"cannot read .*made\.csd: it is cut short: .* Fetch it again\?"),
        open_csd(path),
    ):
        pass
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(UsageError, match=r"cannot read .*made\.csd: .*Fetch it again\?"), open_csd(path):
        pass
    with pytest.raises(UsageError, match="no file"), open_csd(path.parent / "gone.csd"):
        pass


def test_damage_inside_is_told_with_its_entry(csd: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5000, 4))
    path = csd.write(tmp_path / "a.csd", "x", {"v": csd.steps(values, 0.0, 1.0)}, compression="gzip", fletcher32=True)
    content = bytearray(path.read_bytes())
    packed = content.index(b"\x78\x5e") if b"\x78\x5e" in content else content.index(b"\x78")
    content[packed + 2000 : packed + 4000] = os.urandom(2000)
    path.write_bytes(content)
    with open_csd(path) as sequence, pytest.raises(UsageError, match=r"cannot read .*a\.csd: entry v: "):
        sequence.between("v", 0.0, 1e6)


def test_too_much_at_once_is_refused_and_little_of_much_is_cheap(
    csd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.csd", "w") as file:  # 80 MB of zeros that take no space in the file
        group = file.create_group("x/data/v")
        group.create_dataset("features", (100_000, 100), "f8", chunks=(100, 100), compression="gzip")
        begins = np.arange(100_000.0)
        group["intervals"] = np.stack([begins, begins + 1], axis=1)
    monkeypatch.setattr(module, "MAX_BYTES", 2**24)
    with open_csd(tmp_path / "a.csd") as sequence:
        with pytest.raises(UsageError, match="80,000,000 bytes of features at once, more than the 16,777,216"):
            sequence.between("v", 0.0, 1e6)
        tracemalloc.start()
        assert sequence.between("v", 500.0, 510.0).values.shape == (10, 100)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The intervals (1.6 MB) and what is made of them, not the features.
    assert peak < 20e6


def test_memory_is_bounded_while_a_file_is_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that refer to themselves let HDF5 take memory without end; here a chunk stands for them."""
    monkeypatch.setattr(module, "MAX_EXTRA_BYTES", 2**27)

    def endless(*_: object) -> Any:
        return [bytearray(2**26) for _ in range(64)]

    before = resource.getrlimit(resource.RLIMIT_AS)
    with open_csd(path) as sequence:
        monkeypatch.setattr(ComputationalSequence, "_numbers", endless)
        with pytest.raises(UsageError, match="entry abc-D_1: more memory than 134,217,728 bytes is needed to read it"):
            sequence.between("abc-D_1", 1.0, 2.0)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_the_times_of_a_video_are_read_once_for_all_its_clips(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = ComputationalSequence.intervals

    def counted(self: ComputationalSequence, entry: str) -> Any:
        calls.append(entry)
        return real(self, entry)

    monkeypatch.setattr(ComputationalSequence, "intervals", counted)
    with open_csd(path) as sequence:
        for start in (1.0, 1.2, 1.4):
            sequence.between("abc-D_1", start, start + 0.2)
    assert calls == ["abc-D_1"]
