from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsa.features.store
import mmsa.features.table
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.features import (
    fill_store,
    load_features,
    open_table,
    store_folder,
    summarise_missing,
    summarise_notes,
)
from mmsa.features.rows import table_rows

LEVELS = ((0.5, 0.25), (0.125,), (0.75, 0.0, 0.5))
WORDS = ("Good day", "so THEN what", "no")

CorpusOf = Callable[..., Corpus]
Contents = Callable[[], dict[str, bytes]]


# ---- what is stored


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
    assert isinstance(tables["audio"].values, np.memmap)


def test_reasons_are_kept_by_the_ids_of_whoever_asks(
    corpus: Corpus, small: Any, corpus_of: CorpusOf, tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    short = Clip("short", "train", {}, write_wav(tmp_path / "short.wav", [0.5]), None, 0.0, 0.05)
    own = corpus_of([*corpus.clips, short, Clip("words only", "train", {}, None, "some words")])
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    for _ in range(2):  # as extracted, and as read from the disk
        tables = load_features(own, wanted, jobs=1)
        assert tables["text"].missing == {"short": "no transcript"}
        assert tables["audio"].missing == {"short": "silent", "words only": "no media file"}
    assert list(summarise_missing(tables)) == [
        "2 of 5 clips lack audio (1 × silent)",
        "1 of 5 clips lack text (1 × no transcript)",
    ]
    renamed = corpus_of([replace(clip, id=f"new {i}") for i, clip in enumerate(own.clips)], "other")
    assert load_features(renamed, wanted, jobs=1)["audio"].missing == {"new 3": "silent", "new 4": "no media file"}


def test_notes_go_with_the_clip_wherever_its_features_go(
    corpus: Corpus, small: Any, corpus_of: CorpusOf, contents: Contents
) -> None:
    """The sound of the first clip has 0.2 s: a clip of it that ends at 3 s is told so."""
    told = ("the clip ends at 3 s, but its audio stream at 0.20 s",)
    late = replace(corpus.clips[0], id="late", end_seconds=3.0)
    own = corpus_of([corpus.clips[1], late])
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    for _ in range(2):  # as extracted, and as read from the disk
        tables = load_features(own, wanted, jobs=1)
        assert tables["audio"].notes == {"late": told}
        assert tables["text"].notes == {}
    assert list(summarise_notes(tables)) == [f"1 of 2 clips have notes on audio (1 × {told[0]})"]
    more = corpus_of([corpus.clips[2], replace(late, id="again"), corpus.clips[1], late])
    tables, done = fill_store(more, wanted, jobs=1)
    assert (done["audio"].extracted, done["audio"].copied) == (1, 3)
    assert tables["audio"].notes == {"again": told, "late": told}
    alone, _ = fill_store(own, {"audio": small.Loudness()}, store_dtype="float16")
    assert alone["audio"].notes == {"late": told}


def test_notes_do_not_depend_on_what_else_is_extracted_or_by_how_many(
    corpus: Corpus, small: Any, corpus_of: CorpusOf, contents: Contents, monkeypatch: Any, tmp_path: Path
) -> None:
    own = corpus_of([replace(clip, end_seconds=3.0) for clip in corpus.clips])
    found = []
    for place, (ways, jobs) in enumerate(
        [([("audio", "text")], 1), ([("audio",), ("text",)], 1), ([("audio", "text")], 2)]
    ):
        monkeypatch.setenv("MMSA_CACHE", str(tmp_path / f"cache{place}"))
        for keys in ways:
            every = {"audio": small.Loudness(), "text": small.WordLengths()}
            load_features(own, {key: every[key] for key in keys}, jobs=jobs)
        found.append(contents())
    assert found[0] == found[1] == found[2]
    assert any(b"but its audio stream at" in content for content in found[0].values())


def test_a_modality_that_no_clip_has_is_refused(corpus: Corpus, small: Any) -> None:
    wanted = {"vision": small.Brightness(), "text": small.WordLengths()}
    for _ in range(2):
        with pytest.raises(UsageError, match=r"no clip of made has vision \(the first: no video stream\): choose"):
            load_features(corpus, wanted, jobs=1)
    assert fill_store(corpus, wanted, jobs=1)[0]["vision"].missing.keys() == {"clip0", "clip1", "clip2"}


def test_two_processes_write_the_same_bytes_as_one(
    corpus: Corpus,
    small: Any,
    corpus_of: CorpusOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    contents: Contents,
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not sound")
    own = corpus_of([*corpus.clips, Clip("broken", "test", {}, broken, transcript="still read")])
    found = []
    for jobs in (1, 2):
        monkeypatch.setenv("MMSA_CACHE", str(tmp_path / f"jobs{jobs}"))
        load_features(own, {"audio": small.Loudness(), "text": small.WordLengths()}, jobs=jobs)
        found.append(contents())
    assert len(found[0]) == 2 * 5
    assert found[0] == found[1]


@settings(deadline=None, derandomize=True, max_examples=25)
@given(transcripts=st.lists(st.lists(st.text("aB", min_size=1, max_size=5), max_size=4), min_size=1, max_size=6))
def test_the_store_gives_back_what_it_was_given(transcripts: list[list[str]]) -> None:
    """Clips that say the same among them, and clips that say nothing."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    try:
        import small_extractors as small
    finally:
        sys.path.pop(0)
    clips = [Clip(str(i), "train", {}, transcript=" ".join(words)) for i, words in enumerate(transcripts)]
    corpus = Corpus("made", tuple(clips), ())
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


# ---- what is shared


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


def test_folds_share_one_table(corpus: Corpus, small: Any, corpus_of: CorpusOf) -> None:
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    load_features(corpus, wanted, jobs=1)
    fold = corpus_of([replace(clip, split="test", labels={"sentiment": 0.5}) for clip in corpus.clips], "fold 2")
    _, done = fill_store(fold, wanted, jobs=1)
    assert {(own.extracted, own.copied, own.kept) for own in done.values()} == {(0, 0, 3)}
    assert small.CALLS == {"audio": 3, "text": 3}


def test_other_words_for_the_same_media_are_read_alone(corpus: Corpus, small: Any, corpus_of: CorpusOf) -> None:
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    load_features(corpus, wanted, jobs=1)
    load_features(corpus_of([replace(clip, transcript="Guten Tag") for clip in corpus.clips]), wanted, jobs=1)
    assert small.CALLS == {"audio": 3, "text": 6}


def test_a_moved_corpus_keeps_its_features(
    corpus: Corpus, small: Any, corpus_of: CorpusOf, tmp_path: Path, contents: Contents
) -> None:
    load_features(corpus, {"audio": small.Loudness()}, jobs=1)
    before = contents()
    (tmp_path / "elsewhere").mkdir()
    moved = [replace(c, media=c.media.rename(tmp_path / "elsewhere" / f"{c.id}.wav")) for c in corpus.clips if c.media]
    load_features(corpus_of(moved), {"audio": small.Loudness()}, jobs=1)
    assert small.CALLS == {"audio": 3}
    assert contents() == before


def test_only_new_clips_are_extracted(
    corpus: Corpus, small: Any, corpus_of: CorpusOf, tmp_path: Path, write_wav: Callable[..., Path]
) -> None:
    """Wherever they are put, and whatever is left out; the table is as if all had been extracted."""
    wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
    load_features(corpus, wanted, jobs=1)
    new = Clip("new", "train", {}, write_wav(tmp_path / "new.wav", [0.25, 0.5]), "a NEW one")
    more = corpus_of([corpus.clips[2], new, corpus.clips[0]])
    tables, done = fill_store(more, wanted, jobs=1)
    assert {(own.extracted, own.copied, own.kept) for own in done.values()} == {(1, 2, 0)}
    assert small.CALLS == {"audio": 4, "text": 4}
    loudness = [tables["audio"].sequence(i).values[:, 0].tolist() for i in range(3)]
    assert loudness == [[0.75, 0, 0.5], [0.25, 0.5], [0.5, 0.25]]
    assert tables["text"].values[:, 0].tolist() == [2, 1, 3, 3, 4, 3]


def test_clips_that_are_the_same_are_extracted_once(small: Any, texts: Callable[..., Corpus]) -> None:
    tables, done = fill_store(texts("Yes", "no", "Yes", None, "Yes", None), {"text": small.WordLengths()})
    assert (done["text"].extracted, done["text"].copied) == (3, 3)
    assert [tables["text"].sequence(i).values.tolist() for i in (0, 2, 4)] == [[[3, 1]]] * 3
    assert tables["text"].missing == {"3": "no transcript", "5": "no transcript"}


def test_what_is_damaged_elsewhere_is_extracted_and_not_copied(corpus: Corpus, small: Any, corpus_of: CorpusOf) -> None:
    load_features(corpus, {"audio": small.Loudness()}, jobs=1)
    values = store_folder(corpus, small.Loudness()) / "values.raw"
    content = bytearray(values.read_bytes())
    content[0] ^= 1
    values.write_bytes(content)
    table, done = fill_store(corpus_of(corpus.clips[::-1]), {"audio": small.Loudness()}, jobs=1)
    assert (done["audio"].extracted, done["audio"].copied) == (1, 2)
    assert table["audio"].values[:, 0].tolist() == [0.75, 0, 0.5, 0.125, 0.5, 0.25]


# ---- where it lies


def test_parameters_order_and_type_change_the_folder_but_names_and_labels_do_not(
    corpus: Corpus, small: Any, corpus_of: CorpusOf
) -> None:
    own = small.WordLengths()
    folder = store_folder(corpus, own)
    changed = {
        folder,
        store_folder(corpus, small.WordLengths(factor=2.0)),
        store_folder(corpus_of(corpus.clips[::-1]), own),
        store_folder(corpus_of(corpus.clips[:2]), own),
        store_folder(corpus, own, "float16"),
    }
    assert len(changed) == 5
    relabelled = [replace(c, id=f"x{c.id}", labels={"sentiment": 0.5}, split="test", speaker="A") for c in corpus.clips]
    assert store_folder(corpus_of(relabelled, "other"), own) == folder


def test_changed_media_change_the_folder(corpus: Corpus, small: Any, write_wav: Callable[..., Path]) -> None:
    media = corpus.clips[0].media
    assert media is not None
    folder = store_folder(corpus, small.Loudness())
    write_wav(media, LEVELS[0])  # the same content at another time
    assert store_folder(corpus, small.Loudness()) == folder
    write_wav(media, [0.25, 0.5])
    changed = store_folder(corpus, small.Loudness())
    media.unlink()
    assert len({folder, changed, store_folder(corpus, small.Loudness())}) == 3


# ---- float16


def test_float16_is_a_store_of_its_own_made_from_float32(corpus: Corpus, small: Any, contents: Contents) -> None:
    wanted = {"audio": small.Loudness()}
    load_features(corpus, wanted, jobs=1, store_dtype="float16")
    extracted = {name: own for name, own in contents().items() if "float16" in name}
    store_folder(corpus, small.Loudness(), "float16").rename(Path(os.environ["MMSA_CACHE"]) / "away")
    load_features(corpus, wanted, jobs=1)
    assert small.CALLS == {"audio": 6}  # half of the bits do not make the whole
    tables, done = fill_store(corpus, wanted, jobs=1, store_dtype="float16")
    assert small.CALLS == {"audio": 6}
    assert done["audio"].copied == 3
    assert {name: own for name, own in contents().items() if "float16" in name} == extracted
    assert tables["audio"].values.dtype == np.float16
    assert tables["audio"].sequence(0).values.dtype == np.float32
    assert tables["audio"].sequence(0).values[:, 0].tolist() == [0.5, 0.25]


def test_values_beyond_float16_are_refused_and_what_was_done_is_kept(small: Any, texts: Callable[..., Corpus]) -> None:
    own = texts("ab cd", "abcdefg", "ab")
    with pytest.raises(UsageError, match=r"clip '1' has values beyond float16's ±65504 in length \(70000\): keep"):
        load_features(own, {"text": small.WordLengths(factor=1e4)}, store_dtype="float16")
    assert load_features(own, {"text": small.WordLengths(factor=1e4)})["text"].values[2, 0] == 70000
    with pytest.raises(UsageError, match="float32 or float16, not 'int8'"):
        load_features(own, {"text": small.WordLengths()}, store_dtype="int8")


# ---- what goes wrong


def test_a_failure_keeps_what_was_done(corpus: Corpus, small: Any, corpus_of: CorpusOf) -> None:
    failing = small.WordLengths(fail_at="no")
    with pytest.raises(RuntimeError, match="met no"):
        load_features(corpus, {"audio": small.Loudness(), "text": failing}, jobs=1)
    assert not store_folder(corpus, failing).exists()
    assert small.CALLS == {"audio": 3, "text": 3}
    small.CALLS.clear()
    tables = load_features(corpus, {"audio": small.Loudness(), "text": small.WordLengths()}, jobs=1)
    assert small.CALLS == {"audio": 1, "text": 3}  # the sound of two clips was kept; the other extractor is another
    assert tables["audio"].offsets.tolist() == [0, 2, 3, 6]
    with pytest.raises(RuntimeError, match="met no"):
        load_features(corpus, {"text": failing}, jobs=1)
    assert small.CALLS == {"audio": 1, "text": 4}  # straight at the third clip


def test_modalities_go_on_from_where_each_of_them_is(corpus: Corpus, small: Any, corpus_of: CorpusOf) -> None:
    with pytest.raises(RuntimeError, match="met no"):
        load_features(corpus, {"text": small.WordLengths(fail_at="no")}, jobs=1)
    last = replace(corpus.clips[2], transcript="yes")
    own = corpus_of([*corpus.clips[:2], last])  # another table, but the part has two of its clips
    tables, done = fill_store(own, {"audio": small.Loudness(), "text": small.WordLengths(fail_at="no")}, jobs=1)
    assert small.CALLS == {"audio": 3, "text": 4}
    assert (done["text"].extracted, done["text"].copied, done["audio"].extracted) == (1, 2, 3)
    assert tables["text"].values[:, 0].tolist() == [4, 3, 2, 4, 4, 3]


def test_what_is_left_of_a_table_is_made_again(corpus: Corpus, small: Any) -> None:
    load_features(corpus, {"text": small.WordLengths()}, jobs=1)
    values = store_folder(corpus, small.WordLengths()) / "values.raw"
    whole = values.read_bytes()
    values.write_bytes(whole[:-3])
    small.CALLS.clear()
    table = load_features(corpus, {"text": small.WordLengths()}, jobs=1)["text"]
    assert table.values[:, 0].tolist() == [4, 3, 2, 4, 4, 2]
    assert small.CALLS == {"text": 1}  # the two clips before the damage were copied
    values.parent.joinpath("store.json").unlink()
    assert load_features(corpus, {"text": small.WordLengths()}, jobs=1)["text"].values[:, 0].tolist()[-1] == 2


def test_a_store_of_another_version_is_refused(corpus: Corpus, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load_features(corpus, {"text": small.WordLengths()}, jobs=1)
    monkeypatch.setattr(mmsa.features.table, "FORMAT", 99)
    with pytest.raises(UsageError, match="another version of mmsa: delete the folder"):
        load_features(corpus, {"text": small.WordLengths()}, jobs=1)


def test_media_that_change_meanwhile_are_noticed(
    corpus: Corpus, small: Any, monkeypatch: pytest.MonkeyPatch, write_wav: Callable[..., Path]
) -> None:
    real = mmsa.features.store.identify

    def then_written(own: Corpus) -> Any:
        found, media = real(own), own.clips[1].media
        assert media is not None
        write_wav(media, [0.5] * 9)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(mmsa.features.store, "identify", then_written)
        with pytest.raises(UsageError, match=r"1\.wav changed while its features were extracted"):
            load_features(corpus, {"audio": small.Loudness()}, jobs=1)
    table = load_features(corpus, {"audio": small.Loudness()}, jobs=1)["audio"]
    assert [len(table.sequence(i)) for i in range(3)] == [2, 9, 3]
    assert small.CALLS == {"audio": 4}  # the first clip was kept


def test_a_finished_store_needs_no_right_to_write(corpus: Corpus, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load_features(corpus, {"text": small.WordLengths()}, jobs=1)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "read-only")

    for name in ("mkdir", "touch", "unlink", "replace", "write_text", "write_bytes"):
        monkeypatch.setattr(Path, name, refused)
    assert load_features(corpus, {"text": small.WordLengths()}, jobs=1)["text"].offsets.tolist() == [0, 2, 5, 6]


# ---- killed, and several at once

SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import small_extractors
from pathlib import Path
from mmsa.corpora.clip import Clip, Corpus
from mmsa.features import load_features

class Slow(small_extractors.WordLengths):
    # Writes down what it reads; `seconds` is outside of the spec, so that it is the same extractor.
    seconds = float(sys.argv[4])
    def extract_text(self, transcript, *times):
        with open(sys.argv[3], "a") as log:
            log.write(transcript.text + "\\n")
        time.sleep(self.seconds)
        return super().extract_text(transcript, *times)

media = Path(sys.argv[2])
clips = tuple(Clip(str(i), "train", {}, media if i % 2 else None, f"clip number {i}") for i in range(40))
print("ready", flush=True)
load_features(Corpus("made", clips, ()), {"audio": small_extractors.Loudness(), "text": Slow()}, jobs=1)
"""


class Fills:
    """Processes that fill one store with forty clips, and what their extractors read."""

    def __init__(self, small: Any, sound: Path, log: Path) -> None:
        self.words = [sys.executable, "-c", SCRIPT, str(Path(small.__file__).parent), str(sound), str(log)]
        self.log = log

    def start(self, seconds: float) -> subprocess.Popen[str]:
        process = subprocess.Popen([*self.words, str(seconds)], stdout=-1, stderr=-1, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def read(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for(self, clips: int) -> None:
        for _ in range(600):
            if len(self.read()) >= clips:
                return
            time.sleep(0.05)
        raise AssertionError(f"only {len(self.read())} clips were read")


@pytest.fixture
def fills(small: Any, tmp_path: Path, write_wav: Callable[..., Path]) -> Fills:
    return Fills(small, write_wav(tmp_path / "sound.wav", [0.5, 0.25]), tmp_path / "log")


def test_killed_at_any_point_nothing_is_lost_and_nothing_is_there_twice(
    fills: Fills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Contents
) -> None:
    assert fills.start(0).wait() == 0
    expected = contents()
    fills.log.unlink()
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path / "killed"))
    generator = random.Random(0)
    for kill in range(3):
        process = fills.start(0.02)
        fills.wait_for(8 * (kill + 1))
        time.sleep(generator.uniform(0, 0.02))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not [name for name in contents() if name.endswith("store.json")]
    last = fills.start(0)
    assert last.wait() == 0
    assert contents() == expected
    read = Counter(fills.read())
    assert set(read) == {f"clip number {i}" for i in range(40)}
    assert sum(read.values()) <= 40 + 3  # a clip may be read again only where the kill came before it was written
    assert last.stderr is not None
    assert "Going on after" in last.stderr.read()


def test_of_two_processes_one_waits_and_extracts_nothing(fills: Fills) -> None:
    first = fills.start(0.05)
    fills.wait_for(1)
    second = fills.start(0)
    _, told = second.communicate()
    assert second.returncode == 0
    assert first.wait() == 0
    assert "Another process extracts audio of made: waiting for it" in told
    assert sorted(fills.read()) == sorted(f"clip number {i}" for i in range(40))


def test_who_waits_for_a_process_that_is_killed_goes_on_itself(fills: Fills, contents: Contents) -> None:
    first = fills.start(0.05)
    fills.wait_for(5)
    second = fills.start(0)
    time.sleep(0.5)
    first.kill()
    first.communicate()
    second.communicate()
    assert second.returncode == 0
    assert len([name for name in contents() if name.endswith("store.json")]) == 2
    assert max(Counter(fills.read()).values()) <= 2
    assert len(fills.read()) <= 41


def test_threads_of_one_process_wait_as_well(corpus: Corpus, small: Any, contents: Contents) -> None:
    found: list[tuple[int, int, int]] = []

    def fill(modalities: Sequence[str]) -> None:
        wanted = {"audio": small.Loudness(), "text": small.WordLengths()}
        tables, done = fill_store(corpus, {key: wanted[key] for key in modalities}, jobs=1)
        found.append((done["audio"].extracted, done["audio"].copied, done["audio"].kept))
        assert tables["audio"].offsets.tolist() == [0, 2, 3, 6]

    threads = [Thread(target=fill, args=(keys,)) for keys in (("audio", "text"), ("text", "audio"), ("audio",)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(0, 0, 3)] * 5 + [(3, 0, 0)]  # who waited makes nothing again, not even by copying
    assert small.CALLS == {"audio": 3, "text": 3}
    assert len(contents()) == 2 * 5


def test_texts_alone_are_read_in_one_batch(
    small: Any, texts: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_stopped_batch_of_texts_goes_on(
    small: Any, texts: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch, contents: Contents, tmp_path: Path
) -> None:
    own = texts("one", "two", "one", "stop", "five")
    failing = small.WordLengths()
    real = small.WordLengths.extract_text

    def stopped(self: Any, transcript: Any, *times: Any) -> Any:
        if transcript.text == "stop":
            raise KeyboardInterrupt
        return real(self, transcript, *times)

    with monkeypatch.context() as patch:
        patch.setattr(small.WordLengths, "extract_text", stopped)
        with pytest.raises(KeyboardInterrupt):
            load_features(own, {"text": failing})
    _, done = fill_store(own, {"text": failing})
    assert (done["text"].kept, done["text"].extracted, done["text"].copied) == (3, 2, 0)
    stopped_and_gone_on = contents()
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path / "again"))
    load_features(own, {"text": failing})
    assert contents() == stopped_and_gone_on


def test_every_table_lists_its_clips_with_their_checksums(corpus: Corpus, small: Any) -> None:
    load_features(corpus, {"text": small.WordLengths()}, jobs=1)
    folder = store_folder(corpus, small.WordLengths())
    rows = table_rows(folder)
    assert rows.count_sound([record.digest for record in rows.records]) == 3
    rows.close()
    assert open_table(folder).missing == {}


def test_the_layout_is_what_the_documentation_says(corpus: Corpus, small: Any) -> None:
    """Its reader, which knows nothing of mmsa, gets what the table gives."""
    page = (Path(__file__).parents[3] / "docs" / "feature_store.md").read_text(encoding="utf-8")
    (reader,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def read(" in block]
    namespace: dict[str, Any] = {}
    exec(reader, namespace)
    for dtype in ("float32", "float16"):
        table = load_features(corpus, {"audio": small.Loudness()}, jobs=1, store_dtype=dtype)["audio"]
        folder = store_folder(corpus, small.Loudness(), dtype)
        for i in range(3):
            values, times = namespace["read"](folder, i)
            np.testing.assert_array_equal(values, table.sequence(i).values)
            np.testing.assert_array_equal(times, table.sequence(i).times)
        listed = page.split("one table\n")[1].split(".<digest>.part/")[0]
        assert sorted(path.name for path in folder.iterdir()) == sorted(re.findall(r"^ +(\w+\.\w+) ", listed, re.M))
