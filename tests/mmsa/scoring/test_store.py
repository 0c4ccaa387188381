from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmsa.errors import UsageError
from mmsa.scoring.inputs import Input
from mmsa.scoring.results import Score
from mmsa.scoring.store import ResultFile, read_scores, result_key
from mmsa.scoring.timeline import Timeline

MODEL = {"digest": "0" * 32, "corpus": "made", "note": "", "calibration": "none"}
OPTIONS = Timeline(2.0).to_dict()


def _score(name: str, error: str | None = "gone", **more: object) -> Score:
    return Score(name, error=error, model=MODEL, options=OPTIONS, key=f"{name:0>32}", **more)  # type: ignore[arg-type]


def _open(path: Path) -> ResultFile:
    return ResultFile(path, MODEL, OPTIONS)


def test_rows_that_are_there_are_known_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with _open(path) as file:
        file.append(_score("a"))
        file.append(_score("b", None, duration_seconds=1.0))
    before = path.read_bytes()
    with _open(path) as file:
        assert file.errors == {f"{'a':0>32}": True, f"{'b':0>32}": False}
        file.append(_score("c"))
    assert path.read_bytes().startswith(before)
    assert [score.path for score in read_scores(path)] == ["a", "b", "c"]


def test_wherever_the_last_row_was_torn_the_whole_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with _open(path) as file:
        file.append(_score("a"))
        kept = path.read_bytes()
        file.append(_score("ü"))
    whole = path.read_bytes()
    for length in range(len(kept), len(whole)):
        path.write_bytes(whole[:length])
        with _open(path) as file:
            assert list(file.errors) == [f"{'a':0>32}"]
        assert path.read_bytes() == kept


def test_readers_pass_over_a_torn_row(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with _open(path) as file:
        file.append(_score("a"))
    path.write_bytes(path.read_bytes() + b'{"schema": "mmsa')
    assert [score.path for score in read_scores(path)] == ["a"]


def test_of_several_rows_about_one_input_the_last_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with _open(path) as file:
        for score in (_score("a", "first"), _score("b"), _score("a", "second"), _score("a", "cut", start_seconds=1.0)):
            file.append(score)
    assert [score.error for score in read_scores(path)] == ["gone", "second", "cut"]


@pytest.mark.parametrize("content", ["no scores\n", "path,start\n", "[1]\n", '{"schema": "mmsa.score/1"}\n', "video"])
def test_another_file_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="give another --output"), _open(path):
        pass
    assert path.read_text(encoding="utf-8") == content


def test_scores_of_another_model_or_with_other_options_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with _open(path) as file:
        file.append(_score("a"))
    other = ResultFile(path, {**MODEL, "digest": "1" * 32}, OPTIONS)
    with pytest.raises(UsageError, match="scores of another model"), other:
        pass
    other = ResultFile(path, MODEL, Timeline(3.0).to_dict())
    with pytest.raises(UsageError, match=r"window_seconds was 2\.0 and is 3\.0"), other:
        pass


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with _open(path) as file:
        with pytest.raises(UsageError, match="another process is writing"), _open(path):
            pass
        file.append(_score("a"))
    with _open(path) as file:
        assert len(file.errors) == 1


def test_a_row_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.jsonl"
    write, calls = os.write, 0

    def full(handle: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(handle, data[:20])
        raise OSError(28, "No space left on device")

    with _open(path) as file:
        file.append(_score("a"))
        kept = path.read_bytes()
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(UsageError, match="No space left"):
            file.append(_score("b"))
        monkeypatch.undo()
        assert path.read_bytes() == kept
        file.append(_score("c"))
    assert [score.path for score in read_scores(path)] == ["a", "c"]


def test_a_name_that_is_no_text_comes_back(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.mp4")
    path = tmp_path / "scores.jsonl"
    with _open(path) as file:
        file.append(replace(_score("x"), path=odd))
    assert [score.path for score in read_scores(path)] == [odd]
    json.loads(path.read_bytes())


class TestKey:
    def _key(self, item: Input, digest: str = "0", window: float = 2.0) -> str:
        return result_key(item, digest, Timeline(window).to_dict())

    def test_everything_that_changes_numbers_changes_it(self, tmp_path: Path) -> None:
        clip = tmp_path / "a.mp4"
        clip.write_bytes(b"one")
        item = Input(str(clip))
        keys = [
            self._key(item),
            self._key(replace(item, start_seconds=1.0)),
            self._key(replace(item, text="hello")),
            self._key(item, digest="1"),
            self._key(item, window=3.0),
            self._key(Input(str(tmp_path / "gone.mp4"))),
        ]
        clip.with_suffix(".srt").write_text("words", encoding="utf-8")
        keys.append(self._key(item))
        clip.write_bytes(b"other")
        keys.append(self._key(item))
        assert len(set(keys)) == len(keys)

    def test_it_stays_where_nothing_changed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.mp4").write_bytes(b"one")
        before = self._key(Input(str(tmp_path / "a.mp4")))
        monkeypatch.chdir(tmp_path)
        assert self._key(Input("a.mp4", extra={"who": "me"})) == before
