from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from mmsa.corpora.arrays import store_arrays
from mmsa.corpora.clip import Clip, Corpus
from mmsa.features import load_features, store_folder
from mmsa.features.aligned import align_tables
from mmsa.features.inventory import Stale, delete, find_stale, list_store
from mmsa.features.media import ledger_folder
from mmsa.features.store import lock_path, store_root

CorpusOf = Callable[..., Corpus]


def fill(corpus: Corpus, small: Any, **factor: float) -> Path:
    """The folder of the words' table, filled."""
    extractor = small.WordLengths(**factor)
    load_features(corpus, {"text": extractor}, jobs=1)
    return store_folder(corpus, extractor)


def stop(corpus: Corpus, small: Any) -> Path:
    """The folder of a part that holds the clips before the one that says "stop"."""
    extractor = small.WordLengths(fail_at="stop")
    with pytest.raises(RuntimeError, match="met stop"):
        load_features(corpus, {"text": extractor}, jobs=1)
    folder = store_folder(corpus, extractor)
    return folder.with_name(f".{folder.name}.part")


def stale(*arguments: Any) -> dict[Path, str]:
    return {own.path: own.reason for own in find_stale(*arguments)}


def test_an_empty_store_lists_nothing() -> None:
    assert list_store() == []
    assert find_stale() == []


def test_entries_say_what_the_tables_hold(corpus: Corpus, small: Any, texts: Callable[..., Corpus]) -> None:
    load_features(corpus, {"text": small.WordLengths()}, jobs=1, store_dtype="float16")
    part = stop(texts("a b", None, "stop"), small)
    (tmp := store_root() / "other" / ".one-abc").mkdir(parents=True)  # a writer at work
    whole, unfinished = sorted(list_store(), key=lambda entry: entry.state, reverse=True)
    assert (whole.state, whole.corpus, whole.dtype) == ("whole", "made", "float16")
    assert (whole.clips, whole.steps, whole.missing) == (3, 6, 0)
    assert whole.spec == small.WordLengths().spec
    assert whole.bytes == sum(path.stat().st_size for path in whole.folder.iterdir())
    assert (unfinished.folder, unfinished.state, unfinished.spec) == (part, "unfinished", None)
    assert (unfinished.clips, unfinished.steps, unfinished.missing, unfinished.dtype) == (2, 2, 1, "float32")
    assert json.loads(json.dumps(whole.to_dict()))["spec"]["name"] == "small_extractors:WordLengths"
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp, (long_ago, long_ago))
    assert stale()[tmp] == "damaged, or written by another version of mmsa"


def test_damaged_tables_and_other_layouts_are_stale(corpus: Corpus, small: Any) -> None:
    good, cut, old = fill(corpus, small), fill(corpus, small, factor=2.0), fill(corpus, small, factor=3.0)
    (cut / "times.raw").write_bytes(b"")
    (store_root() / "made-0123").mkdir()
    moved = old.rename(store_root() / "made-0123" / "old")
    assert {entry.folder: entry.state for entry in list_store()} == {good: "whole", cut: "unreadable", moved: "whole"}
    assert stale() == {
        cut: "damaged, or written by another version of mmsa",
        moved: "in a layout that this version of mmsa does not use",
    }


def test_tables_of_other_versions_of_a_built_in_extractor_are_stale(
    texts: Callable[..., Corpus], small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import extractors as ex

    lexical, own = ex.build("text.lexical"), texts("good", "bad")
    load_features(own, {"text": lexical})
    fill(own, small)
    assert find_stale() == []
    monkeypatch.setattr("extractors.base.metadata.version", lambda _: "99.0")
    (found,) = stale().items()
    here = ex.build("text.lexical").spec.version
    assert found == (
        store_folder(own, lexical),
        f"made with {lexical.spec.tool} {lexical.spec.version}, here is {lexical.spec.tool} {here}",
    )


def test_a_table_that_a_larger_one_contains_is_stale(corpus: Corpus, small: Any, corpus_of: CorpusOf) -> None:
    first, own = corpus_of(corpus.clips[:2]), {"text": small.WordLengths()}
    before = fill(first, small)
    assert stale(corpus, own) == {}  # it is where the larger one will copy from
    after = fill(corpus, small)
    assert stale(corpus, own) == {before: f"{before.name} is superseded by {after.name}"}
    assert stale(replace(corpus, name="other"), own) == {}  # made for another corpus, which may still open it
    assert stale() == {}
    assert stale(corpus, {"text": small.WordLengths(factor=2.0)}) == {}  # another extractor: it may be asked for again


def test_a_table_of_which_nothing_is_left_is_stale_whatever_its_extractor(
    texts: Callable[..., Corpus], small: Any
) -> None:
    before = fill(texts("one", "two"), small, factor=2.0)
    own = {"text": small.WordLengths()}
    assert stale(texts("two", "three"), own) == {}
    assert stale(texts("three"), own) == {before: "holds no clip that made still has"}


def test_a_part_is_stale_when_its_clips_are_elsewhere(texts: Callable[..., Corpus], small: Any) -> None:
    part = stop(texts("a", "b", "stop"), small)
    own = {"text": small.WordLengths(fail_at="stop")}
    larger = texts("b", "a", "c")
    assert stale(larger, own) == {}
    load_features(larger, own)
    assert stale(larger, own) == {part: f"superseded by {store_folder(larger, own['text']).name}"}
    other = replace(texts("x", "y"), name="other")
    load_features(other, own)
    assert stale(other, own) == {}  # the part's clips may be another corpus's


def test_arrays_that_have_changed_are_stale(tmp_path: Path) -> None:
    clips = (Clip("a", "train", {}),)
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    before = store_arrays("made", clips, {"eeg": {"a": tmp_path / "a.npy"}})
    np.save(tmp_path / "a.npy", np.ones((4, 2)))
    after = store_arrays("made", clips, {"eeg": {"a": tmp_path / "a.npy"}})
    corpus = Corpus("made", clips, (), features=after)
    assert [entry.state for entry in list_store()] == ["ready-made"] * 2
    assert stale() == {}
    assert stale(corpus, {}) == {before["eeg"]: "of arrays that made does not have any more"}


def test_what_is_remembered_of_lost_media_is_stale(corpus: Corpus, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsa.features.media.COARSE_SECONDS", 0.0)
    load_features(corpus, {"audio": small.Loudness()}, jobs=1)
    (ledger,) = ledger_folder().iterdir()
    assert stale() == {}
    for clip in corpus.clips:
        assert clip.media is not None
        clip.media.unlink()
    (found,) = find_stale()
    assert (found.path, found.reason) == (ledger, "remembers media files that are gone")
    assert delete(found)
    assert not ledger.exists()


def test_tables_on_a_grid_go_with_what_they_were_made_of(corpus: Corpus, small: Any) -> None:
    tables = load_features(corpus, {"text": small.WordLengths(), "audio": small.Loudness()}, jobs=1)
    align_tables(corpus, tables, 5.0)
    (entry,) = (entry for entry in list_store() if entry.state == "aligned")
    assert (entry.corpus, entry.clips, entry.missing, entry.dtype) == ("made", 3, 0, "float32")
    # Words last a second each in cells of 0.2 s; sound lasts a tenth for each level, and its rows go on as the words'.
    assert entry.steps == 2 * 5 * (2 + 3 + 1)
    assert stale() == {}
    delete(Stale(store_folder(corpus, small.Loudness()), "", 0))
    assert stale() == {entry.folder: "on a grid, of features that are not there any more"}
    (entry.folder / "text" / "store.json").unlink()
    assert stale() == {entry.folder: "damaged, or written by another version of mmsa"}
    assert delete(*find_stale())
    assert not entry.folder.exists()


def test_deleting_takes_the_folder_and_spares_what_is_in_use(corpus: Corpus, small: Any) -> None:
    folder = fill(corpus, small)
    with FileLock(lock_path(folder)):
        assert not delete(Stale(folder, "", 0))
    assert folder.is_dir()
    assert delete(Stale(folder, "", 0))
    assert not folder.exists()
    assert load_features(corpus, {"text": small.WordLengths()}, jobs=1)["text"].offsets.tolist() == [0, 2, 5, 6]


def test_a_part_in_use_is_spared_too(texts: Callable[..., Corpus], small: Any) -> None:
    part = stop(texts("a", "stop"), small)
    table = store_folder(texts("a", "stop"), small.WordLengths(fail_at="stop"))
    with FileLock(lock_path(table)):
        assert not delete(Stale(part, "", 0))
    assert delete(Stale(part, "", 0))
    assert not part.exists()
