from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmsa.corpora.clip import Clip
from mmsa.features.identity import clip_digests, reads_words, table_key
from mmsa.features.media import MediaIdentity

A, B = Path("a.wav"), Path("b.wav")
A_AS_MP3 = Path("a.mp3")
MEDIA = {A: MediaIdentity("that of a"), B: MediaIdentity("that of b"), A_AS_MP3: MediaIdentity("that of a")}
CLIP = Clip("one", "train", {"sentiment": 0.5}, A, "Good day", 0.5, 2.0, "Ann", "talk", 1, {"show": "X"})


def digest(clip: Clip, words: bool) -> bytes:
    (found,) = clip_digests([clip], words, MEDIA)
    return found


SEEN_BY_ALL: dict[str, Callable[[Clip], Clip]] = {
    "content": lambda clip: replace(clip, media=B),
    "ending": lambda clip: replace(clip, media=A_AS_MP3),
    "more files": lambda clip: replace(clip, more_media=(B,)),
    "start": lambda clip: replace(clip, start_seconds=0.25),
    "end": lambda clip: replace(clip, end_seconds=2.5),
    "no end": lambda clip: replace(clip, end_seconds=None),
    "no media": lambda clip: replace(clip, media=None),
}
WORDS: dict[str, Callable[[Clip], Clip]] = {
    "words": lambda clip: replace(clip, transcript="Good days"),
    "no words": lambda clip: replace(clip, transcript=None),
    "empty words": lambda clip: replace(clip, transcript=""),
}


@pytest.mark.parametrize("change", SEEN_BY_ALL)
def test_what_is_heard_and_seen_counts_for_all(change: str) -> None:
    changed = SEEN_BY_ALL[change](CLIP)
    assert digest(changed, True) != digest(CLIP, True)
    assert digest(changed, False) != digest(CLIP, False)


@pytest.mark.parametrize("change", WORDS)
def test_words_count_for_readers_alone(change: str) -> None:
    changed = WORDS[change](CLIP)
    assert digest(changed, True) != digest(CLIP, True)
    assert digest(changed, False) == digest(CLIP, False)


def test_nothing_else_counts() -> None:
    other = replace(CLIP, id="two", split="test", labels={}, speaker=None, dialogue=None, turn=None, attributes={})
    assert digest(other, True) == digest(CLIP, True)
    moved = {A: MEDIA[A], Path("elsewhere/x.wav"): MediaIdentity("that of a", 5, 6, 7)}
    assert clip_digests([replace(CLIP, media=Path("elsewhere/x.wav"))], True, moved) == [digest(CLIP, True)]


def test_times_mean_nothing_without_media() -> None:
    silent = replace(CLIP, media=None)
    assert digest(replace(silent, start_seconds=None, end_seconds=9.0), True) == digest(silent, True)


def test_several_files_in_another_order_are_another_clip() -> None:
    ab, ba = replace(CLIP, more_media=(B,)), replace(CLIP, media=B, more_media=(A,))
    assert digest(ab, False) != digest(ba, False)


def test_digests_are_all_different_and_of_one_length() -> None:
    changed = [CLIP, *(change(CLIP) for change in {**SEEN_BY_ALL, **WORDS}.values())]
    found = clip_digests(changed, True, MEDIA)
    assert len(set(found)) == len(changed)
    assert {len(own) for own in found} == {16}


def test_a_table_is_its_clips_in_their_order() -> None:
    a, b = digest(CLIP, True), digest(replace(CLIP, media=B), True)
    keys = [table_key(own) for own in ([a, b], [b, a], [a], [a, a])]
    assert len(set(keys)) == 4
    assert table_key([a, b]) == keys[0]
    assert all(len(key) == 16 and set(key) <= set("0123456789abcdef") for key in keys)


def test_only_text_extractors_read(small: object) -> None:
    read = [reads_words(kind()) for kind in (small.WordLengths, small.Loudness, small.Brightness)]  # type: ignore[attr-defined]
    assert read == [True, False, False]
