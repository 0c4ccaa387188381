"""Babble: several people of a corpus talking at once, as a noise that resembles speech."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.errors import UsageError
from mmsa.features.media import identify_media
from mmsa.paths import cache_dir

VOICES = 6
SECONDS = 20
_ATTEMPTS = 10 * VOICES


def make_babble(corpus: Corpus, split: Split, sample_rate_hz: int, *, seed: int = 0) -> Path:
    """The voices of other clips than those under test, at equal loudness, one over the other.

    Taken are `VOICES` clips of the splits that are not `split` (of `split` itself where the corpus has no other), of as
    many speakers as there are. Each is repeated to `SECONDS`.

    Args:
        corpus: whose clips.
        split: the one under test.
        sample_rate_hz: of the result.
        seed: another seed takes other clips.

    Returns:
        A `.npy` file of `(N,)` float32 in the cache; made once.

    Raises:
        UsageError: no clip with sound can be read.
    """
    candidates = _candidates(corpus, split, seed)
    media = identify_media(clip.media for clip in candidates if clip.media is not None)
    seen = [(media[clip.media].content, clip.start_seconds, clip.end_seconds) for clip in candidates if clip.media]
    key = hashlib.sha256(repr((sample_rate_hz, seen)).encode()).hexdigest()[:16]
    path = cache_dir() / "babble" / f"{corpus.name}-{key}.npy"
    if not path.is_file():
        _write(path, mix(_sounds(candidates, sample_rate_hz), SECONDS * sample_rate_hz, corpus.name))
    return path


def mix(sounds: Iterable[NDArray[np.float32]], count: int, name: str) -> NDArray[np.float32]:
    """Sounds at unit mean power, each repeated to `count` samples and begun at its own place, added and scaled to 1.

    Raises:
        UsageError: there are none.
    """
    total, voices = np.zeros(count), 0
    for sound in sounds:
        power = float(np.square(sound, dtype=np.float64).mean())
        total += np.resize(sound / np.sqrt(power), count)
        voices += 1
        if voices == VOICES:
            break
    if not voices:
        raise UsageError(f"no clip of {name} has sound to make babble of: use white or pink noise (--noise audio=…)")
    return np.asarray(total / np.abs(total).max(), np.float32)


def _candidates(corpus: Corpus, split: Split, seed: int) -> list[Clip]:
    """Clips with media in random order, one of each speaker before the second of any."""
    heard = [clip for clip in corpus.clips if clip.media is not None and clip.split != split]
    heard = heard or [clip for clip in corpus.clips if clip.media is not None]
    order = np.random.default_rng(seed).permutation(len(heard))
    rounds: dict[str, int] = {}
    ranked = []
    for place, i in enumerate(order):
        clip = heard[i]
        speaker = clip.speaker or clip.id
        rounds[speaker] = rounds.get(speaker, -1) + 1
        ranked.append((rounds[speaker], place, clip))
    return [clip for _, _, clip in sorted(ranked, key=lambda item: item[:2])][:_ATTEMPTS]


def _sounds(clips: Sequence[Clip], sample_rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """The sound of each clip that has any."""
    from extractors import MediaError

    for clip in clips:
        try:
            sound = _decode(clip, sample_rate_hz)
        except MediaError:
            continue
        if sound.any():
            yield sound


def _decode(clip: Clip, sample_rate_hz: int) -> NDArray[np.float32]:
    """At most `SECONDS` of a clip."""
    from extractors.audio_track import AudioTrack
    from extractors.media import MediaFile

    start = clip.start_seconds or 0.0
    end = min(start + SECONDS, np.inf if clip.end_seconds is None else clip.end_seconds)
    blocks: list[NDArray[np.float32]] = []
    assert clip.media is not None
    with MediaFile(clip.media) as media:
        if media.info.audio is None or not media.info.audio.codec:
            return np.zeros(0, np.float32)
        track = AudioTrack(
            sample_rate_hz,
            blocks.append,
            first_sample=round(start * sample_rate_hz),
            end_sample=round(end * sample_rate_hz),
            latest_seconds=media.latest_seconds,
        )
        media.decode(track, None, start_seconds=start)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _write(path: Path, samples: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            np.save(file, samples)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).replace(path)
