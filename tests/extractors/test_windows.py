"""Windows of a long file: the steps that segments have, in one pass, keeping only what open windows need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import extractors
from extractors.base import VisionExtractor, VisionStream
from extractors.errors import MediaError
from extractors.extraction import extract
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from extractors.transcript import Segment, Transcript
from extractors.windows import RollingPass, Sliding, extract_windows
from tests.extractors.conftest import Listener

Make = Callable[..., Path]


class Numbers(VisionExtractor):
    """The number that each sampled frame carries."""

    def __init__(self, read: Callable[[np.ndarray], int], *, rolls: bool) -> None:
        self.frames_per_second, self.max_side_pixels = 5.0, 320
        self.names = ("number",)
        self.spec = ExtractorSpec("tests:Numbers", "numpy", "1", {})
        self.read, self.rolling = read, rolls  # type: ignore[misc]
        self.streams: list[NumberStream] = []

    def stream(self) -> VisionStream:
        self.streams.append(NumberStream(self))
        return self.streams[-1]


class NumberStream(VisionStream):
    def __init__(self, extractor: Numbers) -> None:
        self._extractor = extractor
        self._steps: dict[int, int] = {}
        self.most = 0

    def push(self, image: NDArray[np.uint8], indices: Sequence[int]) -> None:
        self._steps.update(dict.fromkeys(indices, self._extractor.read(image)))
        self.most = max(self.most, len(self._steps))

    def finish(self) -> FeatureSequence:
        return self._sequence(self._steps)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        mine = {k: v for k, v in self._steps.items() if start_seconds <= (k + 0.5) / 5 < end_seconds}
        return self._sequence(mine), "" if mine else "nothing"

    def forget(self, before_seconds: float) -> None:
        self._steps = {k: v for k, v in self._steps.items() if (k + 0.5) / 5 >= before_seconds}

    def _sequence(self, steps: dict[int, int]) -> FeatureSequence:
        start = np.array(list(steps), np.float64)
        values = np.array(list(steps.values()), np.float32).reshape(-1, 1)
        return FeatureSequence(values, np.stack([start, start + 1], axis=1) / 5, ("number",))


@pytest.fixture
def ten_seconds(media: Make, numbered: Callable[..., list[np.ndarray]], make_tone: Callable[..., np.ndarray]) -> Path:
    """Numbered frames, ten a second, and a tone whose pitch rises every second, with a pause."""
    tones = [make_tone(1.0, hz=150 + 20 * k) for k in range(10)]
    tones[6] = np.zeros_like(tones[6])
    return media("long.mp4", frames=numbered(100), fps=10, samples=np.concatenate(tones))


SPANS = [(0.0, 3.0), (1.5, 4.5), (3.0, 6.0), (3.0, 3.4), (6.2, 6.8), (7.5, 10.0)]


class TestEquality:
    def test_windows_have_the_steps_of_segments(self, ten_seconds: Path) -> None:
        chosen = {"audio": extractors.build("speech.librosa"), "vision": extractors.build("facial.facemesh")}
        windows = list(extract_windows(ten_seconds, chosen, SPANS))
        assert [(w.number, w.start_seconds, w.end_seconds) for w in windows] == [(i, *s) for i, s in enumerate(SPANS)]
        for window, (start, end) in zip(windows, SPANS, strict=True):
            alone = extractors.extract(ten_seconds, chosen, start_seconds=start, end_seconds=end)
            audio, expected = window.extraction.sequences["audio"], alone.sequences["audio"]
            np.testing.assert_array_equal(audio.times, expected.times)
            # A segment's decoder starts at a keyframe, so its samples differ in the last bits; Hz are large numbers.
            tolerance = np.array([0.2 if name.endswith("_hz") else 2e-3 for name in audio.names])
            assert (np.abs(audio.values - expected.values) <= tolerance).all()
            assert window.extraction.missing.keys() == alone.missing.keys()

    @pytest.mark.parametrize("rolls", [True, False])
    def test_every_frame_is_in_its_windows(
        self, ten_seconds: Path, number_of: Callable[[np.ndarray], int], rolls: bool
    ) -> None:
        watcher = Numbers(number_of, rolls=rolls)
        windows = extract_windows(ten_seconds, {"vision": watcher}, SPANS)
        for window, (start, end) in zip(windows, SPANS, strict=True):
            # Five instants a second, each showing the frame of its time; a step belongs where its middle lies.
            expected = [2 * k for k in range(50) if start <= (k + 0.5) / 5 < end]
            assert window.extraction.sequences["vision"].values[:, 0].tolist() == expected
        assert len(watcher.streams) == (1 if rolls else len(SPANS))

    def test_the_face_is_followed_through_the_file(self, face_video: Path) -> None:
        chosen = {"vision": extractors.build("facial.facemesh")}
        whole = extractors.extract(face_video, chosen).sequences["vision"]
        windows = list(extract_windows(face_video, chosen, Sliding(1.0, 1.0)))
        assert [len(w.extraction.sequences["vision"]) for w in windows] == [10, 0, 10]
        assert windows[1].extraction.missing == {"vision": "no face found in 10 sampled frames"}
        for window in windows:
            part = whole.between(window.start_seconds, window.end_seconds)
            np.testing.assert_array_equal(window.extraction.sequences["vision"].values, part.values)
            np.testing.assert_array_equal(window.extraction.sequences["vision"].times, part.times)

    def test_words_go_where_they_are_said(self, ten_seconds: Path) -> None:
        said = Transcript((Segment("good morning", 0.0, 2.0), Segment("terrible", 7.0, 8.0)))
        chosen = {"text": extractors.build("text.lexical"), "audio": extractors.build("speech.librosa")}
        windows = list(extract_windows(ten_seconds, chosen, Sliding(5.0, 5.0), transcript=said))
        assert [len(w.extraction.sequences["text"]) for w in windows] == [2, 1]
        assert list(windows[0].extraction.sequences) == ["text", "audio"]


class TestDecoding:
    def test_a_rolling_pass_says_where_it_fell_back(
        self, media: Make, numbered: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once, for the file as a whole; the windows are those of the CPU."""
        monkeypatch.setattr("extractors.decoding.why_not", lambda device: "no driver")
        monkeypatch.setattr("extractors.decoding.torch_sees", lambda device: True)
        path = media("a.mp4", frames=numbered(50))
        chosen = {"vision": extractors.build("vision.colour", frames_per_second=5.0)}
        reader = extract_windows(path, chosen, Sliding(1.0, 1.0), device="cuda")
        found = list(reader)
        assert reader.notes == ("frames were decoded on the CPU: FFmpeg cannot use the CUDA device (no driver)",)
        assert [w.extraction.notes for w in found] == [(), ()]
        usual = list(extract_windows(path, chosen, Sliding(1.0, 1.0)))
        for ours, theirs in zip(found, usual, strict=True):
            ours_values, theirs_values = (w.extraction.sequences["vision"].values for w in (ours, theirs))
            assert np.array_equal(ours_values, theirs_values)


class TestSpans:
    def test_sliding_windows_end_with_the_one_that_reaches_the_end(self, ten_seconds: Path) -> None:
        reader = extract_windows(ten_seconds, {"audio": extractors.build("speech.librosa")}, Sliding(4.0, 2.5))
        found = [(w.start_seconds, round(w.end_seconds, 1)) for w in reader]
        assert found == [(0.0, 4.0), (2.5, 6.5), (5.0, 9.0), (7.5, 10.0)]
        assert reader.duration_seconds == pytest.approx(10.0, abs=0.1)

    def test_one_window_covers_a_short_file(self, ten_seconds: Path) -> None:
        chosen = {"audio": extractors.build("speech.librosa")}
        (window,) = extract_windows(ten_seconds, chosen, Sliding(60.0, 1.0))
        whole = extractors.extract(ten_seconds, chosen)
        np.testing.assert_array_equal(window.extraction.sequences["audio"].values, whole.sequences["audio"].values)

    def test_a_window_beyond_the_end_says_so(self, ten_seconds: Path) -> None:
        chosen = {"audio": extractors.build("speech.librosa"), "text": extractors.build("text.lexical")}
        first, beyond = extract_windows(ten_seconds, chosen, [(8.0, 12.0), (11.0, 12.0)], transcript="well")
        assert first.end_seconds == pytest.approx(10.0, abs=0.1)
        assert set(beyond.extraction.missing) == {"audio", "text"}
        assert "before this window" in beyond.extraction.missing["audio"]

    def test_silence_is_named(self, ten_seconds: Path) -> None:
        (window,) = extract_windows(ten_seconds, {"audio": extractors.build("speech.librosa")}, [(6.3, 6.7)])
        assert window.extraction.missing == {"audio": "silent"}

    @pytest.mark.parametrize("spans", [[(2.0, 3.0), (1.0, 3.0)], [(1.0, 1.0)], [(-1.0, 2.0)]])
    def test_spans_out_of_order_are_refused(self, ten_seconds: Path, spans: list[tuple[float, float]]) -> None:
        with pytest.raises(ValueError, match="sorted by start"):
            list(extract_windows(ten_seconds, {"audio": extractors.build("speech.librosa")}, spans))

    @pytest.mark.parametrize("lengths", [(0.0, 1.0), (1.0, 0.0), (math.inf, 1.0), (1.0, math.nan)])
    def test_lengths_that_are_none_are_refused(self, lengths: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="positive number of seconds"):
            Sliding(*lengths)

    def test_sliding_starts_are_multiples_of_the_hop(self) -> None:
        assert [start for start, _ in islice(Sliding(1.0, 0.1), 1000)] == [k * 0.1 for k in range(1000)]


class TestOnePass:
    def test_only_what_open_windows_need_is_kept(
        self, ten_seconds: Path, number_of: Callable[[np.ndarray], int]
    ) -> None:
        watcher = Numbers(number_of, rolls=True)
        assert sum(1 for _ in extract_windows(ten_seconds, {"vision": watcher}, Sliding(1.0, 0.5))) == 19
        # A window of a second holds 5 steps; the frame that shows it is over adds one.
        assert watcher.streams[0].most <= 5 + 2

    def test_a_picture_that_ends_early_does_not_hold_up_the_sound(
        self,
        media: Make,
        numbered: Callable[..., list[np.ndarray]],
        make_tone: Callable[..., np.ndarray],
        number_of: Callable[[np.ndarray], int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = media("short-picture.mp4", frames=numbered(10), fps=10, samples=make_tone(60.0, rate=16000), rate=16000)
        reached: list[float] = []
        given: list[float] = []
        original, give = RollingPass._after_push, RollingPass._give
        monkeypatch.setattr(RollingPass, "_after_push", lambda self, n, s: (reached.append(s), original(self, n, s))[1])
        monkeypatch.setattr(RollingPass, "_give", lambda self, end: (given.append(max(reached)), give(self, end))[1])
        chosen = {"audio": extractors.build("speech.librosa"), "vision": Numbers(number_of, rolls=True)}
        windows = list(extract_windows(path, chosen, Sliding(2.0, 2.0)))
        assert len(windows) == 30
        assert [bool(len(w.extraction.sequences["vision"])) for w in windows] == [True] + [False] * 29
        assert all(len(w.extraction.sequences["audio"]) for w in windows)
        # The first windows were given long before the end of the sound was reached.
        assert given[1] < 45

    def test_leaving_early_ends_the_decoding(self, ten_seconds: Path) -> None:
        reader = extract_windows(ten_seconds, {"audio": extractors.build("speech.librosa")}, Sliding(0.1, 0.05))
        for _ in reader:
            break
        assert reader._thread is not None
        assert not reader._thread.is_alive()
        with pytest.raises(RuntimeError, match="read once"):
            next(iter(reader))

    def test_a_file_that_is_none_is_refused_at_once(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"not a video")
        with pytest.raises(MediaError, match="not readable as media"):
            extract_windows(broken, {"audio": extractors.build("speech.librosa")}, Sliding(1.0, 1.0))

    def test_errors_of_the_pass_reach_the_caller(self, ten_seconds: Path) -> None:
        def fail(image: np.ndarray) -> int:
            raise RuntimeError("no such luck")

        with pytest.raises(RuntimeError, match="no such luck"):
            list(extract_windows(ten_seconds, {"vision": Numbers(fail, rolls=True)}, Sliding(1.0, 1.0)))


class TestListening:
    @pytest.mark.parametrize("rolls", [True, False])
    def test_windows_have_the_steps_of_the_whole(self, rising: Path, rolls: bool) -> None:
        whole = extract(rising, {"vision": Listener()}).sequences["vision"]
        for window in extract_windows(rising, {"vision": Listener(rolls=rolls)}, Sliding(3.0, 1.5)):
            found = window.extraction.sequences["vision"]
            expected = whole.between(window.start_seconds, window.end_seconds)
            assert np.array_equal(found.times, expected.times)
            assert found.values == pytest.approx(expected.values, abs=1e-4)

    def test_a_window_is_asked_for_when_all_that_bears_on_it_is_there(self, rising: Path) -> None:
        own = Listener(rolls=True)
        reader = extract_windows(rising, {"vision": own}, Sliding(2.0, 2.0))
        assert len(list(reader)) == 5
        (stream,) = own.streams
        assert all(seen >= 0.5 - 0.2 and heard >= 0.5 for seen, heard in stream.extents[:-1])
        # And not much later: half a second, and the 1.7 s of packets at 10 a second that wait to be decoded.
        assert max(heard for _, heard in stream.extents) < 2.5
        assert stream.forgotten == 9.0  # a second before the window that does not come any more
        assert reader.notes == ("asked about 0 to inf",)
