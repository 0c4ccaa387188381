from __future__ import annotations

import time
from pathlib import Path

import pytest

from mmsa.scoring.inputs import Input
from mmsa.scoring.meter import EVERY_SECONDS, Meter


def test_where_no_terminal_is_lines_say_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 3 MB and one of 1 MB: after the first, three quarters are done, a third of that time is left."""
    for name, size in (("a.mp4", 3_000_000), ("b.mp4", 1_000_000)):
        (tmp_path / name).write_bytes(bytes(size))
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first, second = Input(str(tmp_path / "a.mp4")), Input(str(tmp_path / "b.mp4"))
    with Meter([first, second]) as meter:
        now = 2 * EVERY_SECONDS
        meter.within(first, 0.5)
        now = 6 * EVERY_SECONDS
        meter.finished(first)
        meter.finished(second)
        assert meter.files == "2/2"
    told = capsys.readouterr().err
    assert "Scoring (2) …" in told
    assert "Scoring: 0/2, 38%, about 1.7 min left" in told
    assert "Scoring: 1/2, 75%, about 1.0 min left" in told


def test_files_that_are_not_there_do_not_stop_it(tmp_path: Path) -> None:
    gone, far = Input(str(tmp_path / "gone.mp4")), Input("s3://bucket/a.mp4")
    with Meter([gone, far]) as meter:
        meter.finished(gone)
        assert meter.files == "1/2"


def test_inputs_under_way_count_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of 3 MB and a quarter of 1 MB are 1.75 of 4 MB; when the small one is finished, 2.5 are done."""
    for name, size in (("a.mp4", 3_000_000), ("b.mp4", 1_000_000)):
        (tmp_path / name).write_bytes(bytes(size))
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first, second = Input(str(tmp_path / "a.mp4")), Input(str(tmp_path / "b.mp4"))
    with Meter([first, second]) as meter:
        meter.within(first, 0.5)
        now = 2 * EVERY_SECONDS
        meter.within(second, 0.25)
        now = 4 * EVERY_SECONDS
        meter.finished(second)
    told = capsys.readouterr().err
    assert "Scoring: 0/2, 44%" in told
    assert "Scoring: 1/2, 62%" in told
