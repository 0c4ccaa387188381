"""Several faces in a clip: drawn ones whose places, lips and voices are known, and stand-ins for the tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import extractors
from extractors import FeatureSequence
from extractors.base import VisionExtractor, VisionStream
from extractors.facial.face_choice import FaceChoice
from extractors.facial.face_view import FaceView
from extractors.facial.facemesh import FaceMesh
from extractors.facial.faces_stream import TRACK, FacesStream, Looks
from extractors.facial.speech_energy import RATE_HZ
from tests.extractors.facial.conftest import LARGE, LEFT, RIGHT, SMALL


def mesh(faces: str, **parameters: Any) -> dict[str, extractors.Extractor]:
    return {"vision": FaceMesh(landmarks="none", faces=faces, **parameters)}


def places(sequence: FeatureSequence) -> np.ndarray:
    """Where each step's face is, in pixels of the stage."""
    return sequence.values[:, sequence.names.index("face_x")] * 900 + 450


def steps(sequence: FeatureSequence) -> np.ndarray:
    return np.round(sequence.times[:, 0] * 10).astype(int)


@pytest.fixture(scope="module")
def whole(talk: Path) -> extractors.Extraction:
    return extractors.extract(talk, mesh("speaking"))


class TestSpeaking:
    def test_the_one_whose_lips_go_with_the_sound(self, whole: extractors.Extraction) -> None:
        """Left until about 4 s, right from then on; the turn is found to within a second."""
        found = whole.sequences["vision"]
        assert steps(found).tolist() == list(range(120))
        where = places(found)
        assert where[:31] == pytest.approx(LEFT, abs=15)
        assert where[50:81] == pytest.approx(RIGHT, abs=15)
        assert np.flatnonzero(np.diff(where > 450))[0] in range(30, 50)

    def test_in_silence_the_largest_stands_in_after_a_while_and_it_is_said(self, whole: extractors.Extraction) -> None:
        """The speaker's evidence ends by 9 s at the latest, and is held for 2 s."""
        assert places(whole.sequences["vision"])[116:] == pytest.approx(LEFT, abs=15)
        (note,) = whole.notes
        assert note.endswith("of 12.0 s with several faces: there the largest stands in")
        assert note.startswith("nobody's lips go with the sound in ")
        assert 0.4 <= float(note.split(" in ")[1].split(" of ")[0]) <= 2.0

    def test_a_part_gets_the_steps_of_the_whole(self, talk: Path, whole: extractors.Extraction) -> None:
        part = extractors.extract(talk, mesh("speaking"), start_seconds=4.5, end_seconds=6.0)
        expected = whole.sequences["vision"].between(4.5, 6.0)
        assert np.array_equal(part.sequences["vision"].times, expected.times)
        assert part.sequences["vision"].values == pytest.approx(expected.values, abs=1e-4)
        assert part.notes == ()

    def test_so_do_windows_of_one_pass_beside_another_listener(self, talk: Path, whole: extractors.Extraction) -> None:
        both = {**mesh("speaking"), "audio": extractors.build("speech.librosa")}
        reader = extractors.extract_windows(talk, both, extractors.Sliding(5.0, 3.5))
        for window in reader:
            found = window.extraction.sequences["vision"]
            expected = whole.sequences["vision"].between(window.start_seconds, window.end_seconds)
            assert np.array_equal(found.times, expected.times)
            assert np.array_equal(found.values, expected.values)
            assert len(window.extraction.sequences["audio"])
        assert reader.notes == whole.notes

    def test_without_sound_the_largest_stands_in_and_it_is_said(self, stage: Any, media: Callable[..., Path]) -> None:
        talking, still = stage.syllables(1, 0.0, 2.0), stage.syllables(1, 0.0, 0.0)
        actors = [stage.actor(SMALL, lambda t: LEFT, talking), stage.actor(LARGE, lambda t: RIGHT, still)]
        silent = media("silent.mp4", frames=stage.draw(actors, 1.0), fps=stage.rate)
        found = extractors.extract(silent, mesh("speaking"))
        assert places(found.sequences["vision"]) == pytest.approx([RIGHT] * 10, abs=15)
        assert found.notes == ("without sound nobody can tell which of several faces speaks: the largest stands in",)

    def test_crops_are_the_speakers_at_their_own_rate(self, talk: Path) -> None:
        """Their skins differ; steps at 4 a second come from frames at 12."""
        extractor = Skin()
        assert extractor.frames_per_second == 12.0
        found = extractors.extract(talk, {"vision": extractor}, start_seconds=2.0, end_seconds=6.0).sequences["vision"]
        assert found.times[:, 0].tolist() == pytest.approx([2 + k / 4 for k in range(16)])
        assert found.times[:, 1].tolist() == pytest.approx([2.25 + k / 4 for k in range(16)])
        red = found.values[:, 0]
        assert red[12:].min() - red[:4].max() > 40


class Skin(VisionExtractor):
    """Red in the middle of the crop."""

    rolling = True

    def __init__(self) -> None:
        self.view = FaceView(crop_pixels=32, margin=0.15, frames_per_second=4.0, max_side_pixels=1280, faces="speaking")
        self.view.equip(self, ("red",))
        self.spec = extractors.ExtractorSpec("skin", "none", "1", {})

    def stream(self) -> VisionStream:
        return self.view.stream(
            self, lambda crops: np.array([[c[12:20, 8:24, 0].mean()] for c in crops], np.float32), 8
        )


class TestAll:
    def test_a_step_for_each_face_of_a_frame_in_the_order_of_their_tracks(
        self, stage: Any, media: Callable[..., Path]
    ) -> None:
        """They walk past each other; the one in front hides the other. The left one leaves for a second, then again."""

        def away(t: float) -> float | None:
            return 150 + 200 * t if t < 3 else (750.0 if 4 <= t < 4.5 else None)

        one = stage.actor("s00", away, stage.syllables(7, 0, 5))
        other = stage.actor("s04", lambda t: max(150.0, 750 - 200 * t), stage.syllables(8, 0, 5), in_front=True)
        clip = media("cross.mp4", frames=stage.draw([one, other], 5.0), fps=stage.rate)
        found = extractors.extract(clip, mesh("all")).sequences["vision"]
        assert found.names[-1] == TRACK
        assert found.values.shape[1] == len(FaceMesh(landmarks="none").names) + 1
        track, at, where = found.values[:, -1].astype(int), steps(found), places(found)
        assert np.array_equal(np.lexsort((track, at)), np.arange(len(at)))
        assert set(track) == {0, 1}
        for number, x in ((0, one.x), (1, other.x)):
            mine = track == number
            expected = [x(k / 10) for k in at[mine]]
            # A face that is half hidden is drawn towards what shows of it.
            clear = [abs((one.x(k / 10) or np.inf) - other.x(k / 10)) > 200 for k in at[mine]]
            assert where[mine][clear] == pytest.approx(np.array(expected, float)[clear], abs=25)
            assert sum(clear) >= 20
        assert set(at[track == 0]) >= {*range(8), *range(22, 30), *range(40, 45)}
        assert not set(at[track == 0]) & {*range(30, 40), *range(45, 50)}

        part = extractors.extract(clip, mesh("all"), start_seconds=2.5, end_seconds=5.0).sequences["vision"]
        expected = found.between(2.5, 5.0)
        assert np.array_equal(part.times, expected.times)
        # The ranks are those of the part, in which they stand the other way round; the rest is the same.
        order, other_way = (np.lexsort((places(one), steps(one))) for one in (part, expected))
        assert part.values[order, :-1] == pytest.approx(expected.values[other_way, :-1], abs=1e-5)
        assert np.array_equal(part.values[order, -1], 1 - expected.values[other_way, -1])


class Places:
    """A source that finds faces where it is told, frame by frame; closes once."""

    def __init__(self, view: Callable[..., np.ndarray], script: Sequence[Sequence[float]]) -> None:
        self._view, self._script, self.closed = view, iter(script), 0

    def find_all(self, image: np.ndarray) -> list[np.ndarray]:
        return [self._view(centre=(x, 240.0), scale=50.0) for x in next(self._script)]

    def close(self) -> None:
        self.closed += 1


class Where(VisionExtractor):
    """Each face's place; `kept` and `batches` say what was described when."""

    def __init__(self, *, all_: bool = True) -> None:
        self.frames_per_second, self.max_side_pixels = 10.0, 640
        self.names = ("x", TRACK) if all_ else ("x",)
        self.spec = extractors.ExtractorSpec("where", "none", "1", {})
        self.batches: list[int] = []

    def stream(self) -> VisionStream:
        raise NotImplementedError

    def looks(self, batch_size: int = 1) -> Looks:
        def describe(kept: Sequence[Any]) -> np.ndarray:
            self.batches.append(len(kept))
            return np.array(kept, np.float32)

        return Looks(lambda image, points: [float(points[[10, 152], 0].mean())], describe, batch_size)

    def of(self, source: Places, *, speaking: bool = False, batch_size: int = 1) -> FacesStream:
        looks = self.looks(batch_size)
        choice = FaceChoice(self.frames_per_second, source, looks.keep, speaking=speaking)  # type: ignore[arg-type]
        return FacesStream(self, choice, looks)


IMAGE = np.zeros((480, 640, 3), np.uint8)
View = Callable[..., np.ndarray]


class TestStream:
    def test_a_frame_shown_longer_is_looked_at_and_described_once(self, view: View) -> None:
        own = Where()
        source = Places(view, [[400, 100], [100, 400], []])
        stream = own.of(source, batch_size=3)
        stream.push(IMAGE, [0, 1, 2])
        stream.push(IMAGE, [3])
        stream.push(IMAGE, [4])
        found = stream.finish()
        assert np.round(found.values).tolist() == [[100, 0], [400, 1]] * 4
        assert found.times[:, 0].tolist() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
        assert sum(own.batches) == 4
        assert max(own.batches) <= 3
        assert source.closed == 1
        assert stream.notes() == ()
        with pytest.raises(RuntimeError, match="this stream is finished: ask the extractor for a fresh one"):
            stream.push(IMAGE, [5])

    def test_windows_number_their_own_tracks_and_forget(self, view: View) -> None:
        stream = Where().of(Places(view, [[400], [400], [100, 400], [100], []]))
        for index in range(5):
            stream.push(IMAGE, [index])
        assert np.round(stream.window(0.0, 0.3)[0].values).tolist() == [[400, 0], [400, 0], [400, 0], [100, 1]]
        assert np.round(stream.window(0.2, 0.4)[0].values).tolist() == [
            [100, 0],
            [400, 1],
            [100, 0],
        ]  # both come with frame 2
        found, reason = stream.window(0.4, 0.5)
        assert (len(found), reason) == (0, "no face found in 1 sampled frame")
        assert stream.window(0.5, 0.9)[1] == "no frame could be sampled"
        stream.forget(0.3)
        assert len(stream._rows) == len(stream._steps) == 1
        assert stream.missing_reason() == "no face found in 2 sampled frames"
        stream.close()

    def test_a_speaker_is_chosen_when_picture_and_sound_around_are_there(self, view: View) -> None:
        own = Where(all_=False)
        stream = own.of(Places(view, [[100, 400]] * 60), speaking=True)
        second = np.zeros(RATE_HZ, np.float32)
        stream.listen(second, 0)
        for index in range(30):
            stream.push(IMAGE, [index])
        assert not own.batches
        stream.listen(second, RATE_HZ)  # the sound of frames up to 19, which is 12 (1.2 s) after frame 7
        assert len(own.batches) == 8
        assert len(stream.window(0.0, 1.0)[0]) == 10  # whatever is missing
        stream.no_more_sound()  # frames up to 29, which is a second after frame 19
        assert len(own.batches) == 20
        for index in range(30, 60):
            stream.push(IMAGE, [index])
        assert len(stream.finish()) == 60
        assert stream.notes() == (
            "nobody's lips go with the sound in 6.0 of 6.0 s with several faces: there the largest stands in",
        )
        assert stream.notes(1.0, 2.5)[0].startswith("nobody's lips go with the sound in 1.5 of 1.5 s")

    def test_memory_is_bounded_where_the_sound_does_not_come(self, view: View) -> None:
        own = Where(all_=False)
        stream = own.of(Places(view, [[100, 400]] * 400), speaking=True)
        for index in range(400):
            stream.push(IMAGE, [index])
            if index % 50 == 49:
                stream.forget(index / 10 - 9.0)
        speaking = stream._choice._speaking
        assert speaking is not None
        assert len(speaking._waiting) == 80
        assert len(speaking._frames) <= 80 + 11
        assert len(speaking._doubts) < 120
        assert len(stream._rows) <= 20

    def test_one_face_needs_no_speaker(self, view: View) -> None:
        stream = Where(all_=False).of(Places(view, [[100]] * 5), speaking=True)
        stream.no_more_sound()
        for index in range(5):
            stream.push(IMAGE, [index])
        assert len(stream.finish()) == 5
        assert stream.notes() == ()
