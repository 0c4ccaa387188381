from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsa.features
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.features import extract_clip, load_features, store_folder, summarise_missing
from mmsa.tasks import Regression

TASKS = (Regression("sentiment", -1, 1),)
LEVELS = ((0.5, 0.25), (0.125,), (0.75, 0.0, 0.5))
WORDS = ("Good day", "so THEN what", "no")


def corpus_of(clips: Sequence[Clip]) -> Corpus:
    return Corpus("made", tuple(clips), TASKS)


def texts(*transcripts: str | None) -> Corpus:
    return corpus_of([Clip(str(i), "train", {}, transcript=text) for i, text in enumerate(transcripts)])


@pytest.fixture
def corpus(tmp_path: Path, write_wav: Callable[..., Path]) -> Corpus:
    """Three clips with sound and words."""
    return corpus_of(
        [
            Clip(f"clip{i}", "train", {}, write_wav(tmp_path / f"{i}.wav", levels), transcript=words)
            for i, (levels, words) in enumerate(zip(LEVELS, WORDS, strict=True))
        ]
    )


def stores() -> list[Path]:
    """Everything that lies in the cache, to any depth, but folders."""
    return [path for path in Path(os.environ["MMSA_CACHE"]).rglob("*") if path.is_file()]


def test_tables_hold_what_the_extractors_compute(corpus: Corpus, small: Any) -> None:
    tables = load_features(corpus, {"audio": small.Loudness(), "text": small.WordLengths(factor=2.0)}, jobs=1)
    for i, (levels, words) in enumerate(zip(LEVELS, WORDS, strict=True)):
        loudness = tables["audio"].sequence(i)
        np.testing.assert_array_equal(loudness.values[:, 0], np.array(levels, np.float32))
        np.testing.assert_allclose(loudness.times[:, 0], np.arange(len(levels)) * 0.1)
        read = tables["text"].sequence(i)
        expected = [[2 * len(word), sum(map(str.isupper, word))] for word in words.split()]
        np.testing.assert_array_equal(read.values, np.array(expected, np.float32))
    assert tables["audio"].names == ("loudness",)
    assert tables["text"].names == ("length", "capitals")
    assert tables["text"].spec == small.WordLengths(factor=2.0).spec
    assert not tables["audio"].missing


def test_tables_are_memory_mapped_and_read_only(corpus: Corpus, small: Any) -> None:
    table = load_features(corpus, {"audio": small.Loudness()}, jobs=1)["audio"]
    assert isinstance(table.values, np.memmap)
    assert isinstance(table.times, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        table.values[0] = 1.0


def test_features_are_extracted_once(corpus: Corpus, small: Any) -> None:
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    load_features(corpus, wanted, jobs=1)
    assert small.CALLS == {"audio": 3, "text": 3}
    load_features(corpus, wanted, jobs=1)
    assert small.CALLS == {"audio": 3, "text": 3}


def test_a_changed_extractor_extracts_its_modality_alone(corpus: Corpus, small: Any) -> None:
    load_features(corpus, {"audio": small.Loudness(), "text": small.WordLengths()}, jobs=1)
    changed = load_features(corpus, {"audio": small.Loudness(), "text": small.WordLengths(factor=3.0)}, jobs=1)
    assert small.CALLS == {"audio": 3, "text": 6}
    assert changed["text"].values[0, 0] == 3 * len("Good")


CHANGES: dict[str, Callable[[Clip], Clip]] = {
    "id": lambda clip: replace(clip, id="other"),
    "words": lambda clip: replace(clip, transcript="Good days"),
    "no words": lambda clip: replace(clip, transcript=None),
    "start": lambda clip: replace(clip, start_seconds=0.05),
    "end": lambda clip: replace(clip, end_seconds=0.15),
    "no media": lambda clip: replace(clip, media=None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_clip_changes_the_folder(corpus: Corpus, small: Any, change: str) -> None:
    spec = small.WordLengths().spec
    changed = corpus_of([CHANGES[change](corpus.clips[0]), *corpus.clips[1:]])
    assert store_folder(changed, spec) != store_folder(corpus, spec)


def test_a_changed_file_changes_the_folder(corpus: Corpus, small: Any, write_wav: Callable[..., Path]) -> None:
    spec, media = small.Loudness().spec, corpus.clips[0].media
    assert media is not None
    first = store_folder(corpus, spec)
    assert store_folder(corpus, spec) == first
    stamp = media.stat().st_mtime_ns
    os.utime(media, ns=(stamp, stamp + 1_000_000_000))
    later = store_folder(corpus, spec)
    write_wav(media, [0.5, 0.25, 0.5])
    os.utime(media, ns=(stamp, stamp))
    longer = store_folder(corpus, spec)
    media.unlink()
    assert len({first, later, longer, store_folder(corpus, spec)}) == 4


def test_parameters_and_order_change_the_folder_but_labels_do_not(corpus: Corpus, small: Any) -> None:
    spec = small.WordLengths().spec
    folder = store_folder(corpus, spec)
    assert store_folder(corpus, small.WordLengths(factor=2.0).spec) != folder
    assert store_folder(corpus_of(corpus.clips[::-1]), spec) != folder
    assert store_folder(replace(corpus, name="other"), spec) != folder
    relabelled = [replace(clip, labels={"sentiment": 0.5}, split="test", speaker="A") for clip in corpus.clips]
    assert store_folder(corpus_of(relabelled), spec) == folder


def test_a_failure_leaves_nothing_behind(corpus: Corpus, small: Any) -> None:
    failing = {"audio": small.Loudness(), "text": small.WordLengths(fail_at="no")}
    with pytest.raises(RuntimeError, match="met no"):
        load_features(corpus, failing, jobs=1)
    assert small.CALLS["text"] == 3  # two clips were written by then
    assert stores() == []
    tables = load_features(corpus, {"audio": small.Loudness(), "text": small.WordLengths()}, jobs=1)
    assert tables["audio"].offsets.tolist() == [0, 2, 3, 6]


def test_an_interruption_leaves_nothing_behind(corpus: Corpus, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = mmsa.features.extract_clip, []

    def second_is_interrupted(clip: Clip, extractors: Any) -> Any:
        calls.append(clip.id)
        if len(calls) == 2:
            raise KeyboardInterrupt("stopped")
        return real(clip, extractors)

    monkeypatch.setattr(mmsa.features, "extract_clip", second_is_interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        load_features(corpus, {"text": small.WordLengths()}, jobs=1)
    assert stores() == []


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import mmsa.features, small_extractors
from mmsa.corpora.clip import Clip, Corpus
from mmsa.tasks import Regression

real = mmsa.features.extract_clip
def killed_at_third(clip, extractors):
    if clip.id == "2":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(clip, extractors)
mmsa.features.extract_clip = killed_at_third
clips = tuple(Clip(str(i), "train", {}, transcript="a b", media=None if i else sys.argv[2]) for i in range(4))
corpus = Corpus("made", clips, (Regression("sentiment", -1, 1),))
mmsa.features.load_features(corpus, {"text": small_extractors.WordLengths()}, jobs=1)
"""


def test_a_killed_process_leaves_no_readable_store(small: Any, tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    sound = write_wav(tmp_path / "sound.wav", [0.5])
    script = KILLED.replace("sys.argv[2]", "__import__('pathlib').Path(sys.argv[2])")
    command = [sys.executable, "-c", script, str(Path(small.__file__).parent), str(sound)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert not [path for path in stores() if path.name == "store.json"]
    clips = [Clip(str(i), "train", {}, transcript="a b", media=None if i else sound) for i in range(4)]
    table = load_features(corpus_of(clips), {"text": small.WordLengths()}, jobs=1)["text"]
    assert table.offsets.tolist() == [0, 2, 4, 6, 8]


def test_a_half_written_store_is_made_again(corpus: Corpus, small: Any) -> None:
    folder = store_folder(corpus, small.WordLengths().spec)
    folder.mkdir(parents=True)
    (folder / "values.raw").write_bytes(b"half")
    table = load_features(corpus, {"text": small.WordLengths()}, jobs=1)["text"]
    assert table.values[:, 0].tolist() == [4, 3, 2, 4, 4, 2]


def test_a_store_of_another_version_is_refused(corpus: Corpus, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load_features(corpus, {"text": small.WordLengths()}, jobs=1)
    monkeypatch.setattr(mmsa.features, "FORMAT", 99)
    with pytest.raises(UsageError, match="another version of mmsa: delete it"):
        load_features(corpus, {"text": small.WordLengths()}, jobs=1)


def test_two_processes_write_the_same_bytes_as_one(
    corpus: Corpus, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not sound")
    clips = [*corpus.clips, Clip("broken", "test", {}, broken, transcript="still read")]
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    contents = []
    for jobs in (1, 2):
        monkeypatch.setenv("MMSA_CACHE", str(tmp_path / f"jobs{jobs}"))
        load_features(corpus_of(clips), wanted, jobs=jobs)
        contents.append({str(p.relative_to(tmp_path / f"jobs{jobs}")): p.read_bytes() for p in stores()})
    assert len(contents[0]) == 2 * 4
    assert contents[0] == contents[1]


def test_unreadable_media_costs_sound_and_picture_but_not_words(corpus: Corpus, small: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    gone = Clip("gone", "train", {}, tmp_path / "gone.mp4", "Where to", 1.0, 2.0)
    clips = [Clip("broken", "train", {}, broken, "We SEE"), gone, *corpus.clips]
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    tables = load_features(corpus_of(clips), wanted, jobs=1)
    assert [len(tables["audio"].sequence(i)) for i in range(5)] == [0, 0, 2, 1, 3]
    assert set(tables["audio"].missing) == {"broken", "gone"}
    assert str(broken) in tables["audio"].missing["broken"]
    assert "No such file" in tables["audio"].missing["gone"]
    assert tables["text"].sequence(0).values.tolist() == [[2, 1], [3, 3]]
    assert tables["text"].sequence(1).values.tolist() == [[5, 1], [2, 0]]
    assert not tables["text"].missing
    every = {**wanted, "vision": small.Brightness()}
    sequences, missing = extract_clip(clips[0], every)
    assert {key: len(sequence) for key, sequence in sequences.items()} == {"audio": 0, "text": 2, "vision": 0}
    assert set(missing) == {"audio", "vision"}
    assert missing["vision"] == tables["audio"].missing["broken"]


def test_reasons_are_kept(corpus: Corpus, small: Any, tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    clips = [
        *corpus.clips,
        Clip("short", "train", {}, write_wav(tmp_path / "short.wav", [0.5]), None, 0.0, 0.05),
        Clip("words only", "train", {}, None, "some words"),
    ]
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    for _ in range(2):  # as extracted, and as read from the disk
        tables = load_features(corpus_of(clips), wanted, jobs=1)
        assert tables["text"].missing == {"short": "no transcript"}
        assert tables["audio"].missing == {"short": "silent", "words only": "no media file"}
    assert list(summarise_missing(tables)) == [
        "2 of 5 clips lack audio (1 × silent)",
        "1 of 5 clips lack text (1 × no transcript)",
    ]


def test_a_modality_that_no_clip_has_is_refused(corpus: Corpus, small: Any) -> None:
    wanted = {"vision": small.Brightness(), "text": small.WordLengths()}
    with pytest.raises(UsageError, match=r"no clip of made has vision \(the first: no video stream\): choose others"):
        load_features(corpus, wanted, jobs=1)


def test_texts_alone_are_read_in_one_batch(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    single = small.WordLengths.extract_many

    def watched(self: Any, transcripts: Sequence[Any]) -> Any:
        seen.append([transcript.text for transcript in transcripts])
        return single(self, transcripts)

    monkeypatch.setattr(small.WordLengths, "extract_many", watched)
    table = load_features(texts("Good day", None, "so", "  "), {"text": small.WordLengths()})["text"]
    assert seen == [["Good day", "", "so", ""]]
    assert table.values[:, 0].tolist() == [4, 3, 2]
    assert table.offsets.tolist() == [0, 2, 2, 3, 3]
    assert table.missing == {"1": "no transcript", "3": "no transcript"}


@settings(deadline=None, derandomize=True, max_examples=25)
@given(transcripts=st.lists(st.lists(st.text("aB", min_size=1, max_size=5), max_size=4), min_size=1, max_size=6))
def test_the_store_gives_back_what_it_was_given(transcripts: list[list[str]]) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        import small_extractors as small
    finally:
        sys.path.pop(0)
    corpus = texts(*(" ".join(words) for words in transcripts))
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, MMSA_CACHE=folder):
        if not any(transcripts):
            with pytest.raises(UsageError, match="no clip of made has text"):
                load_features(corpus, {"text": small.WordLengths()})
            return
        for _ in range(2):
            table = load_features(corpus, {"text": small.WordLengths()})["text"]
            for i, words in enumerate(transcripts):
                expected = [[len(word), word.count("B")] for word in words]
                assert table.sequence(i).values.tolist() == expected
                assert table.sequence(i).times.tolist() == [[k, k + 1] for k in range(len(words))]
