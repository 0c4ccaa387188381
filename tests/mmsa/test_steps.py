from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmsa.steps
from fusion import ModalitySequence
from mmsa.features import FeatureTable
from mmsa.steps import Steps, as_tensor, clips_not_finite, moments, open_steps

CPU = torch.device("cpu")
MakeTable = Callable[..., FeatureTable]


def gather(table: FeatureTable, clips: list[int]) -> ModalitySequence:
    index = np.array(clips)
    return Steps(table, CPU).gather(table.offsets[index], np.diff(table.offsets)[index])


@settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=8), seed=st.integers(0, 99), half=st.booleans())
def test_a_batch_is_what_padding_clip_by_clip_gives(
    make_table: MakeTable, lengths: list[int], seed: int, half: bool
) -> None:
    random = np.random.default_rng(seed)
    clips = [random.normal(size=(n, 3)).astype(np.float16).astype(np.float32) for n in lengths]
    table = make_table("audio", clips)
    if half:
        table = replace(table, values=table.values.astype(np.float16))
    order = random.permutation(len(lengths)).tolist()
    found, expected = gather(table, order), ModalitySequence.pad([torch.from_numpy(clips[i]) for i in order])
    assert found.values.dtype == torch.float32
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.mask, expected.mask)


def test_what_padding_is_gathered_from_does_not_show(make_table: MakeTable) -> None:
    table = make_table("audio", [np.full((1, 2), np.nan), np.ones((1, 2)), np.ones((3, 2))])
    found = gather(table, [1, 2])
    assert found.values[0].tolist() == [[1, 1], [0, 0], [0, 0]]


def on_disk(table: FeatureTable, path: Path) -> FeatureTable:
    table.values.tofile(path)
    return replace(table, values=np.memmap(path, table.values.dtype, "r", shape=table.values.shape))


def test_on_the_cpu_the_map_itself_is_read(make_table: MakeTable, tmp_path: Path) -> None:
    table = on_disk(make_table("audio", [np.ones((2, 3)), np.zeros((1, 3))]), tmp_path / "values")
    steps = Steps(table, CPU)
    assert steps.values.data_ptr() == table.values.ctypes.data
    assert steps.gather(np.array([0]), np.array([2])).values.tolist() == [[[1, 1, 1], [1, 1, 1]]]


def test_a_table_larger_than_memory(make_table: MakeTable, tmp_path: Path) -> None:
    """137 GB, of which the file system holds what was written."""
    rows = 2**30
    with (tmp_path / "values").open("wb") as file:
        file.truncate(rows * 32 * 4)
        file.seek((rows - 2) * 32 * 4)
        file.write(np.arange(64, dtype=np.float32).tobytes())
    small = make_table("audio", [np.zeros((1, 32)), np.zeros((1, 32)), np.zeros((2, 32))])
    values = np.memmap(tmp_path / "values", np.float32, "r", shape=(rows, 32))
    table = replace(small, values=values, offsets=np.array([0, 1, rows - 2, rows]))
    found = gather(table, [0, 2])
    assert found.mask.tolist() == [[True, False], [True, True]]
    assert torch.equal(found.values[1], torch.arange(64.0).view(2, 32))
    assert not found.values[0].any()
    sums = moments(table, np.array([0, 2]))  # the clip between them is not read
    assert sums.count == 3
    assert sums.total.tolist() == [i + (32 + i) for i in range(32)]


def test_tensors_over_a_map_do_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    values = np.ones((2, 2), np.float32)
    values.flags.writeable = False
    assert as_tensor(values).sum() == 4
    assert not recwarn.list


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_moments_are_those_of_the_wanted_clips(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(mmsa.steps, "BLOCK_BYTES", rows * 8 * 2)
    random = np.random.default_rng(0)
    clips = [random.normal(3, 2, (n, 2)).astype(np.float32) for n in (4, 0, 7, 2, 1, 0, 5)]
    wanted = [0, 1, 3, 4, 6]
    sums = moments(make_table("audio", clips), np.array(wanted))
    kept = np.concatenate([clips[i] for i in wanted]).astype(np.float64)
    assert sums.count == len(kept)
    np.testing.assert_allclose(sums.total.numpy(), kept.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sums.squares.numpy(), (kept**2).sum(axis=0), rtol=1e-12)


def test_moments_of_nothing(make_table: MakeTable) -> None:
    sums = moments(make_table("audio", [np.zeros((0, 2))]), np.array([0]))
    assert (sums.count, sums.total.tolist()) == (0, [0.0, 0.0])
    assert moments(make_table("audio", [np.ones((1, 2))]), np.array([], np.int64)).count == 0


def test_clips_that_are_not_finite_are_found(make_table: MakeTable) -> None:
    clips = [np.ones((2, 2)), np.array([[1, np.inf]]), np.zeros((0, 2)), np.array([[np.nan, 0], [1, 1]])]
    assert clips_not_finite(make_table("audio", clips), np.array([0, 1, 2, 3])) == [1, 3]
    assert clips_not_finite(make_table("audio", clips), np.array([0, 3])) == [3]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("megabytes", "where"), [(0, ["cpu", "cpu"]), (1, ["cuda", "cpu"]), (None, ["cuda", "cuda"])])
def test_the_smallest_tables_go_to_the_device_first(
    make_table: MakeTable, megabytes: int | None, where: list[str]
) -> None:
    tables = {"text": make_table("text", [np.ones((9, 4))]), "audio": make_table("audio", [np.ones((90_000, 4))])}
    opened = open_steps(tables, torch.device("cuda"), megabytes)
    assert [opened[key].values.device.type for key in ("text", "audio")] == where
    for key, steps in opened.items():
        batch = steps.gather(np.array([0, 2]), np.array([2, 3]))
        assert batch.values.device.type == batch.mask.device.type == "cuda"
        assert torch.equal(
            batch.values.cpu(), Steps(tables[key], CPU).gather(np.array([0, 2]), np.array([2, 3])).values
        )
