"""One pass over packets: who is fed, what is left out, what breaks off."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from extractors.audio_track import AudioTrack
from extractors.decode_pass import DecodePass
from extractors.frame_sampler import FrameSampler
from extractors.media import MediaFile

Make = Callable[..., Path]


class Film:
    """A container of packets of a tenth of a second at 10 s on its own clock, with a picture each.

    Args:
        broken: packets that cannot be decoded.
        ends: before which packet the reading breaks off.
        unstamped: packets without a time.
    """

    def __init__(self, count: int, broken: tuple[int, ...] = (), ends: int | None = None, unstamped: int = -1) -> None:
        self.count, self.broken, self.ends, self.unstamped = count, broken, ends, unstamped
        self.kept = [self.frame(count)]
        self.stream = SimpleNamespace(index=7, codec_context=SimpleNamespace(decode=lambda packet: self.kept))

    def frame(self, number: int) -> Any:
        frame = av.VideoFrame.from_ndarray(np.full((8, 8, 3), number, np.uint8), format="rgb24")
        frame.pts, frame.duration, frame.time_base = 100 + number, 1, Fraction(1, 10)
        return frame

    def demux(self, streams: Any) -> Iterator[Any]:
        for number in range(self.count):
            if number == self.ends:
                raise av.error.InvalidDataError(1, "broken")
            pts = None if number == self.unstamped else 100 + number
            packet = SimpleNamespace(stream=self.stream, pts=pts, duration=1, time_base=Fraction(1, 10))
            packet.decode = lambda number=number: self._decode(number)
            yield packet

    def _decode(self, number: int) -> list[Any]:
        if number in self.broken:
            raise av.error.InvalidDataError(1, "broken")
        return [self.frame(number)]


class Sampler(FrameSampler):
    """Ten pictures a second: which was seen at which step, and until when the lost ones would have been shown."""

    def __init__(self, **options: Any) -> None:
        self.seen: dict[int, int] = {}
        self.losses: list[float | None] = []
        super().__init__(10.0, 8, lambda im, ks: self.seen.update(dict.fromkeys(ks, int(im[0, 0, 0]))), **options)

    def lose(self, end_seconds: float | None) -> None:
        self.losses.append(end_seconds)
        super().lose(end_seconds)


def run(film: Film, sampler: Sampler) -> Any:
    return DecodePass(film, {7: sampler}, 10.0, [], shown=True).run([film.stream])


def test_a_packet_that_cannot_be_decoded_is_left_out_and_told_with_its_time() -> None:
    sampler = Sampler()
    report = run(Film(6, broken=(1, 4), unstamped=4), sampler)
    assert sampler.seen == {0: 0, 1: 0, 2: 2, 3: 3, 4: 3, 5: 5}  # the one before is held
    assert sampler.losses == [pytest.approx(0.2), None]
    assert (sampler.lost, report.decode_errors, report.complete, report.broke_off) == (2, 2, True, "")
    assert report.end_seconds == pytest.approx(0.6)


def test_only_what_would_have_been_in_the_clip_counts_as_lost() -> None:
    sampler = Sampler(first_index=3, end_index=6)
    report = run(Film(12, broken=(0, 1, 2, 4, 9)), sampler)
    # Picture 2 lasts until 0.3 s, where the clip begins; picture 9 comes when nothing more is wanted.
    assert sampler.lost == 2
    assert not report.complete
    track = AudioTrack(100, lambda block: None, first_sample=30)
    for end in (0.1, 0.29, 0.3, 0.5, None):
        track.lose(end)
    assert track.lost == 3


def test_where_the_reading_breaks_off_what_came_before_stands() -> None:
    """The decoder still holds a picture, number 9, which comes out as well."""
    film, sampler = Film(9, ends=4), Sampler()
    report = run(film, sampler)
    assert sampler.seen == {0: 0, 1: 1, 2: 2, 3: 3, **dict.fromkeys(range(4, 9), 3), 9: 9}
    assert report.broke_off == "broken"
    assert report.decode_errors == 0


def test_no_more_than_a_few_frames_are_alive_at_once(media: Make, numbered: Callable) -> None:
    """The sampled pictures are handed over one at a time and nothing keeps them."""
    path = media("long.mp4", frames=numbered(250))
    alive: list[weakref.ref] = []
    most = 0

    def push(image: np.ndarray, indices: range) -> None:
        nonlocal most
        alive.append(weakref.ref(image))
        most = max(most, sum(ref() is not None for ref in alive))

    with MediaFile(path) as file:
        file.decode(None, FrameSampler(10.0, 320, push))
    assert len(alive) == 100
    assert most <= 2
