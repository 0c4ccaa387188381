from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import extractors
from extractors import FeatureSequence, VisionStream
from mmsa.robustness import frames
from mmsa.robustness.frames import WorseFrames, blurred, frame_chance


class Recorder(VisionStream):
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[NDArray[np.uint8], list[int]]] = []
        self.closed = 0
        self.segment: tuple[float, float] | None = None

    def expect_segment(self, start_seconds: float, end_seconds: float) -> None:
        self.segment = (start_seconds, end_seconds)

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        self.seen.append((image.copy(), list(indices)))

    def finish(self) -> FeatureSequence:
        return FeatureSequence.empty(("none",))

    def close(self) -> None:
        self.closed += 1


def watched(worse: WorseFrames, images: Sequence[NDArray[np.uint8]]) -> Recorder:
    """What the inner extractor sees of frames that are each shown at one instant."""
    inner = Recorder()
    stream = frames._WorseStream(worse, inner)
    for index, image in enumerate(images):
        stream.push(image, [index])
    stream.finish()
    return inner


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize("drop", [0.2, 0.5, 0.9])
def test_the_share_asked_for_is_dropped(small: Any, drop: float) -> None:
    """Each frame by itself: within four standard deviations of a binomial count."""
    images = pictures(4000)
    kept = len(watched(WorseFrames.around(small.Brightness(), drop=drop), images).seen)
    assert abs(4000 - kept - 4000 * drop) < 4 * np.sqrt(4000 * drop * (1 - drop))


def test_nothing_or_all_is_dropped_at_the_ends(small: Any) -> None:
    images = pictures(50)
    whole = watched(WorseFrames.around(small.Brightness(), drop=0.0), images)
    assert [indices for _, indices in whole.seen] == [[i] for i in range(50)]
    assert watched(WorseFrames.around(small.Brightness(), drop=1.0), images).seen == []


def test_what_goes_at_one_share_goes_at_every_higher_one(small: Any) -> None:
    images = pictures(300)
    kept = [
        {index for _, (index,) in watched(WorseFrames.around(small.Brightness(), drop=drop), images).seen}
        for drop in (0.2, 0.5, 0.8)
    ]
    assert kept[0] > kept[1] > kept[2]


def test_neighbours_are_dropped_independently(small: Any) -> None:
    """A standing picture as well: how often two instants in a row go is the square of how often one goes."""
    still = [pictures(1)[0]] * 6000
    worse = WorseFrames.around(small.Brightness(), drop=0.5)
    gone = np.ones(6000, bool)
    gone[[index for _, (index,) in watched(worse, still).seen]] = False
    pairs = float((gone[:-1] & gone[1:]).mean())
    assert pairs == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 3000))


def test_another_seed_drops_others_and_the_same_seed_the_same(small: Any) -> None:
    images = pictures(200)
    kept = [
        [index for _, (index,) in watched(WorseFrames.around(small.Brightness(), drop=0.5, seed=s), images).seen]
        for s in (0, 0, 1)
    ]
    assert kept[0] == kept[1] != kept[2]


def test_chances_are_uniform() -> None:
    chances = [frame_chance(image, 3, 0) for image in pictures(3000)]
    assert 0 <= min(chances) < max(chances) < 1
    counts, _ = np.histogram(chances, 10, (0, 1))
    assert ((counts - 300) ** 2 / 300).sum() < 27.9  # chi-squared with 9 degrees of freedom, 1 in 1000


def test_a_frame_shown_at_several_instants_loses_some_of_them(small: Any) -> None:
    inner = Recorder()
    stream = frames._WorseStream(WorseFrames.around(small.Brightness(), drop=0.5), inner)
    stream.push(pictures(1)[0], range(100))
    ((_, indices),) = inner.seen
    assert 20 < len(indices) < 80


def test_which_segment_counts_is_passed_on(small: Any) -> None:
    inner = Recorder()
    frames._WorseStream(WorseFrames.around(small.Brightness(), drop=0.5), inner).expect_segment(1.0, 2.5)
    assert inner.segment == (1.0, 2.5)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_the_blur_has_the_width_asked_for(sigma: float) -> None:
    """A bright column spreads with the variance asked for (rounding to bytes costs little at this height)."""
    image = np.zeros((81, 81, 3), np.uint8)
    image[:, 40] = 255
    row = blurred(image, sigma)[40, :, 1].astype(float)
    offsets = np.arange(81) - 40
    assert (row * offsets).sum() == 0
    assert np.sqrt((row * offsets**2).sum() / row.sum()) == pytest.approx(sigma, rel=0.06)


def test_blur_leaves_an_even_picture_as_it_is_and_spreads_both_ways(small: Any) -> None:
    even = np.full((20, 30, 3), 77, np.uint8)
    np.testing.assert_array_equal(blurred(even, 3.0), even)
    image = np.zeros((21, 21, 3), np.uint8)
    image[10, 10] = 255
    (seen, _), *_ = watched(WorseFrames.around(small.Brightness(), blur_pixels=2.0), [image]).seen
    np.testing.assert_array_equal(seen, seen.transpose(1, 0, 2))
    assert seen[10, 10, 0] == seen.max() < 255


def test_it_is_rebuilt_from_its_spec(small: Any) -> None:
    worse = WorseFrames.around(small.Brightness(), drop=0.25, blur_pixels=1.5, seed=9)
    again = extractors.rebuild(extractors.ExtractorSpec.from_json(worse.spec.to_json()))
    assert again.spec == worse.spec
    assert (again.frames_per_second, again.max_side_pixels) == (5.0, 64)  # type: ignore[attr-defined]
    others = [WorseFrames.around(small.Brightness(), drop=0.3), WorseFrames.around(small.Brightness(), blur_pixels=2)]
    assert len({one.spec.fingerprint for one in (worse, small.Brightness(), *others)}) == 4


def test_the_inner_stream_is_closed_and_asked_for_reasons(small: Any) -> None:
    inner = Recorder()
    stream = frames._WorseStream(WorseFrames.around(small.Brightness(), drop=1.0), inner)
    stream.push(pictures(1)[0], [0])
    assert stream.missing_reason() == "every frame was dropped"
    assert frames._WorseStream(WorseFrames.around(small.Brightness()), inner).missing_reason() == inner.missing_reason()
    stream.close()
    assert inner.closed == 1


def test_what_cannot_be_is_refused(small: Any) -> None:
    spec = small.Brightness().spec.to_dict()
    with pytest.raises(ValueError, match=r"drop must lie in \[0, 1\] and blur_pixels not below 0, not 1.5 and 0"):
        WorseFrames(inner=spec, drop=1.5)
    with pytest.raises(ValueError, match="not below 0"):
        WorseFrames(inner=spec, blur_pixels=-1)
    with pytest.raises(ValueError, match="what a vision extractor looks at, not audio"):
        WorseFrames(inner=small.Loudness().spec.to_dict())


def test_what_listens_goes_on_listening(small: Any) -> None:
    """To the sound as it is, with as much of the media around a segment as before."""

    class Listening(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[int] = []

        def listen(self, samples: NDArray[np.float32], first_sample: int) -> None:
            self.heard.append(first_sample)

        def no_more_sound(self) -> None:
            self.heard.append(-1)

        def notes(self, start_seconds: float = 0.0, end_seconds: float = 1.0) -> tuple[str, ...]:
            return (f"{start_seconds} to {end_seconds}",)

    watcher = extractors.build("facial.facemesh", faces="speaking")
    worse = WorseFrames.around(watcher, drop=1.0)  # type: ignore[arg-type]
    assert worse.listens_at_hz == 8000
    assert (worse.before_seconds, worse.after_seconds) == (watcher.before_seconds, watcher.after_seconds)  # type: ignore[attr-defined]
    inner = Listening()
    stream = frames._WorseStream(worse, inner)
    stream.listen(np.zeros(3, np.float32), 7)
    stream.no_more_sound()
    assert inner.heard == [7, -1]
    assert stream.notes(2.0, 3.0) == ("2.0 to 3.0",)
