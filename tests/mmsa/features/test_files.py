from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.errors import UsageError
from mmsa.features.files import FileFeatures, extract_files, media_files, read_features


@pytest.fixture
def folder(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    """Two sounds, one of them in a folder and with words beside it."""
    root = tmp_path / "media"
    (root / "deep").mkdir(parents=True)
    write_wav(root / "a.wav", [0.5, 0.25])
    write_wav(root / "deep" / "b.WAV", [0.125])
    (root / "deep" / "b.srt").write_text("1\n00:00:00,000 --> 00:00:00,100\nso THEN\n")
    return root


@pytest.fixture
def run(folder: Path, tmp_path: Path, small: Any) -> Callable[..., list[FileFeatures]]:
    """Extract sound and words of the folder into `out`."""

    def extract(factor: float = 1.0, **options: Any) -> list[FileFeatures]:
        extractors = {"audio": small.Loudness(), "text": small.WordLengths(factor=factor)}
        return list(extract_files(media_files(folder), folder, tmp_path / "out", extractors, jobs=1, **options))

    return extract


def test_media_are_found_at_any_depth_and_by_their_ending(folder: Path) -> None:
    for name in ("c.txt", ".hidden.mp4", ".cache/d.mp4", "e.mp4/f.mkv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    found = [str(path.relative_to(folder)) for path in media_files(folder)]
    assert found == ["a.wav", "deep/b.WAV", "e.mp4/f.mkv"]
    with pytest.raises(
        UsageError, match=r"\.cache holds neither a corpus nor media files \(those end in \.3gp .* \.wmv"
    ):
        media_files(_empty(folder / ".cache"))


def _empty(folder: Path) -> Path:
    for path in folder.iterdir():
        path.unlink()
    return folder


def test_features_are_written_file_by_file_and_read_back(
    run: Callable[..., list[FileFeatures]], folder: Path, tmp_path: Path, small: Any
) -> None:
    first, second = run(factor=2.0)
    assert first.output == tmp_path / "out" / "a.wav.safetensors"
    assert second.output == tmp_path / "out" / "deep" / "b.WAV.safetensors"
    assert (first.steps, first.missing) == ({"audio": 2, "text": 0}, {"text": "no transcript"})
    assert (second.steps, second.missing) == ({"audio": 1, "text": 2}, {})
    sequences, metadata = read_features(second.output)
    assert sequences["text"].values.tolist() == [[4, 0], [8, 4]]
    assert sequences["text"].names == ("length", "capitals")
    assert sequences["audio"].values.tolist() == [[0.125]]
    np.testing.assert_allclose(sequences["audio"].times, [[0, 0.1]])
    assert metadata["specs"]["text"] == small.WordLengths(factor=2.0).spec.to_dict()
    assert (metadata["missing"], metadata["notes"]) == ({}, [])
    assert metadata["duration_seconds"] == pytest.approx(0.1)
    assert read_features(first.output)[0]["text"].values.shape == (0, 2)


def test_a_file_can_be_read_without_mmsa(run: Callable[..., list[FileFeatures]]) -> None:
    from safetensors import safe_open

    with safe_open(run()[0].output, framework="numpy") as file:
        assert set(file.keys()) == {"audio.values", "audio.times", "text.values", "text.times"}
        assert file.get_tensor("audio.values").tolist() == [[0.5], [0.25]]
        assert json.loads(file.metadata()["mmsa"])["names"]["audio"] == ["loudness"]


def test_what_is_there_is_kept_until_something_changes(
    run: Callable[..., list[FileFeatures]], folder: Path, small: Any, write_wav: Callable[..., Path]
) -> None:
    made = run()
    again = run()
    assert [own.kept for own in made + again] == [False, False, True, True]
    assert [(own.steps, own.missing) for own in again] == [(own.steps, own.missing) for own in made]
    assert small.CALLS["audio"] == 2
    assert [own.kept for own in run(factor=2.0)] == [False, False]
    run()
    write_wav(folder / "a.wav", [0.75])
    assert [own.kept for own in run()] == [False, True]
    (folder / "deep" / "b.srt").write_text("1\n00:00:00,000 --> 00:00:00,100\nso\n")
    assert [own.kept for own in run()] == [True, False]
    assert [own.kept for own in run(store_dtype="float16")] == [False, False]


def test_a_file_that_was_cut_short_is_made_again(run: Callable[..., list[FileFeatures]]) -> None:
    first, second = run()
    whole = first.output.read_bytes()
    first.output.write_bytes(whole[:-1])
    second.output.write_bytes(b"")
    assert [own.kept for own in run()] == [False, False]
    assert first.output.read_bytes() == whole


def test_a_stop_keeps_what_was_done(
    run: Callable[..., list[FileFeatures]], folder: Path, tmp_path: Path, small: Any
) -> None:
    extractors = {"audio": small.Loudness()}
    made = extract_files(media_files(folder), folder, tmp_path / "out", extractors, jobs=1)
    next(made)
    made.close()  # type: ignore[attr-defined]
    again = list(extract_files(media_files(folder), folder, tmp_path / "out", extractors, jobs=1))
    assert [own.kept for own in again] == [True, False]


def test_bad_files_are_told_and_cost_no_other(
    run: Callable[..., list[FileFeatures]], folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "deep" / "b.srt").write_bytes(b"\xff\xfe\x00")
    good, broken, words = run()
    assert (good.error, good.output.is_file()) == (None, True)
    assert broken.error is not None
    assert broken.error.startswith("not readable as media")  # who prints it says which file
    assert words.error is not None
    assert words.error.startswith("the transcript beside b.")
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"a.wav.safetensors"}
    assert broken.to_dict() == {"path": str(folder / "broken.mp4"), "error": broken.error}


def test_values_beyond_float16_fail_their_file_alone(run: Callable[..., list[FileFeatures]]) -> None:
    first, second = run(factor=1e5, store_dtype="float16")
    assert first.error is None
    assert second.error is not None
    assert "'b.WAV' has values beyond float16's ±65504 in length" in second.error


def test_processes_write_the_same_files(
    run: Callable[..., list[FileFeatures]], folder: Path, tmp_path: Path, small: Any
) -> None:
    extractors = {"audio": small.Loudness(), "text": small.WordLengths()}
    both = list(extract_files(media_files(folder), folder, tmp_path / "both", extractors, jobs=2))
    for one, other in zip(run(), both, strict=True):
        assert one.output.read_bytes() == other.output.read_bytes()
        assert one.steps == other.steps


def test_what_is_no_file_of_features_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(1)}, tmp_path / "x.safetensors")
    save_file({"x": np.zeros(1)}, tmp_path / "w.safetensors", {"mmsa": "[]"})
    (tmp_path / "y.safetensors").write_bytes(os.urandom(64))
    for name in ("w", "x", "y", "z"):
        with pytest.raises(UsageError, match="is no file of features"):
            read_features(tmp_path / f"{name}.safetensors")


def test_features_of_another_version_are_refused(
    run: Callable[..., list[FileFeatures]], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = run()[0].output
    monkeypatch.setattr("mmsa.features.files.FORMAT", "mmsa.features/99")
    with pytest.raises(UsageError, match="another version of mmsa: extract it again"):
        read_features(output)
    assert not run()[0].kept
