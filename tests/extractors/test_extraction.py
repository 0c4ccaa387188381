"""`extract`: every modality of a clip, what is missing and why, segments, damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import extractors
from extractors.base import AudioExtractor, AudioStream, VisionExtractor, VisionStream
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from tests.extractors.conftest import Listener

Make = Callable[..., Path]


class Brightness(VisionExtractor):
    """The mean grey level of each sampled frame."""

    def __init__(self, frames_per_second: float = 10.0) -> None:
        self.frames_per_second, self.max_side_pixels = frames_per_second, 320
        self.names = ("grey",)
        self.spec = ExtractorSpec("tests:Brightness", "numpy", "1", {})
        self.closed = 0
        self.segments: list[tuple[float, float]] = []

    def stream(self) -> VisionStream:
        return BrightnessStream(self)


class BrightnessStream(VisionStream):
    def __init__(self, extractor: Brightness) -> None:
        self._extractor, self._rows, self._at = extractor, [], []

    def expect_segment(self, start_seconds: float, end_seconds: float) -> None:
        assert not self._at  # before any frame
        self._extractor.segments.append((start_seconds, end_seconds))

    def push(self, image: np.ndarray, indices: Sequence[int]) -> None:
        self._rows += [[image.mean()]] * len(indices)
        self._at += indices

    def finish(self) -> FeatureSequence:
        if not self._rows:
            return self._extractor.empty()
        start = np.array(self._at, np.float64)
        times = np.stack([start, start + 1], axis=1) / self._extractor.frames_per_second
        return FeatureSequence(np.array(self._rows, np.float32), times, self._extractor.names)

    def close(self) -> None:
        self._extractor.closed += 1


class Failing(AudioExtractor):
    """Breaks in the middle of the pass."""

    sample_rate_hz = 16000
    names = ("x",)
    spec = ExtractorSpec("tests:Failing", "none", "1", {})

    def stream(self, first_sample: int = 0) -> AudioStream:
        raise RuntimeError("no such luck")


@pytest.fixture(scope="module")
def trio() -> dict[str, extractors.Extractor]:
    return {
        "audio": extractors.build("speech.librosa"),
        "vision": extractors.build("facial.facemesh"),
        "text": extractors.build("text.lexical"),
    }


def test_a_face_a_voice_and_words(face_video: Path, trio: dict) -> None:
    result = extractors.extract(face_video, trio, transcript="I really love this!")
    assert result.missing == {}
    assert result.notes == ()
    assert abs(result.duration_seconds - 3.0) < 0.05
    vision, audio, text = (result.sequences[m] for m in ("vision", "audio", "text"))
    seen = vision.times[:, 0]
    assert seen.tolist() == pytest.approx([*(k / 10 for k in range(10)), *(k / 10 for k in range(20, 30))])
    assert vision.values[:, vision.names.index("smile")].min() > 0.1
    assert np.allclose(np.diff(audio.times[:, 0]), 0.02)
    f0 = audio.values[5:-5, audio.names.index("f0_semitones")]
    assert np.abs(f0 - 12 * np.log2(200 / 150)).max() < 0.2
    assert text.times[0, 0] == 0.0
    assert text.times[-1, 1] == pytest.approx(result.duration_seconds)
    for sequence, extractor in zip(result.sequences.values(), trio.values(), strict=True):
        assert sequence.names == extractor.names


def test_the_same_clip_gives_the_same_numbers(face_video: Path, trio: dict) -> None:
    again = {name: extractors.rebuild(extractor.spec) for name, extractor in trio.items()}
    first = extractors.extract(face_video, trio, transcript="fine.")
    second = extractors.extract(face_video, again, transcript="fine.")
    for name in trio:
        assert np.array_equal(first.sequences[name].values, second.sequences[name].values)
        assert np.array_equal(first.sequences[name].times, second.sequences[name].times)


def test_a_stream_is_told_which_segment_counts(media: Make, numbered: Callable) -> None:
    path, own = media("a.mp4", frames=numbered(50)), Brightness()
    extractors.extract(path, {"vision": own})
    assert own.segments == []
    extractors.extract(path, {"vision": own}, end_seconds=1.0)
    extractors.extract(path, {"vision": own}, start_seconds=0.5)
    extractors.extract(path, {"vision": own}, start_seconds=0.5, end_seconds=1.5)
    assert own.segments == [(0.0, 1.0), (0.5, np.inf), (0.5, 1.5)]


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.37), (1.0, 3.0), (2.51, 4.03), (3.33, None)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.m4a"])
def test_a_segment_is_that_span_of_the_whole(
    media: Make, make_tone: Callable, name: str, start: float, end: float | None
) -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, 150)
    frames = None if name.endswith("m4a") else [np.full((64, 96, 3), level, np.uint8) for level in levels]
    samples = make_tone(6.0) * np.repeat(rng.uniform(0.2, 1.0, 60), 4800).astype(np.float32)
    path = media(name, frames=frames, samples=np.stack([samples] * 2), gop=25)
    using = {"audio": extractors.build("speech.librosa"), "vision": Brightness()}
    whole = extractors.extract(path, using)
    part = extractors.extract(path, using, start_seconds=start, end_seconds=end)
    for modality in using:
        expected = whole.sequences[modality].between(start, 100.0 if end is None else end)
        found = part.sequences[modality]
        assert np.array_equal(found.times, expected.times)
        error = np.abs(found.values - expected.values) / (1.0 + np.abs(expected.values))
        assert error.max(initial=0.0) < 5e-3
    assert part.duration_seconds == pytest.approx((end or whole.duration_seconds) - start)
    assert len(part.sequences["audio"]) > 50


def test_what_is_missing_says_why(media: Make, make_tone: Callable, numbered: Callable, trio: dict) -> None:
    silent_film = media("silent.mp4", frames=numbered(20))
    result = extractors.extract(silent_film, trio)
    assert result.missing == {
        "audio": "no audio stream",
        "vision": "no face found in 8 sampled frames",
        "text": "no transcript",
    }
    radio = media("radio.m4a", samples=make_tone(1.0))
    result = extractors.extract(radio, trio, transcript="hello")
    assert result.missing == {"vision": "no video stream"}
    quiet = media("quiet.mp4", frames=numbered(20), samples=np.zeros(48000, np.float32))
    assert extractors.extract(quiet, trio).missing["audio"] == "silent"
    short = media("short.wav", samples=make_tone(0.02, rate=16000), rate=16000, audio_codec="pcm_f32le")
    assert "less than one analysis window" in extractors.extract(short, trio).missing["audio"]
    for sequence, extractor in zip(result.sequences.values(), trio.values(), strict=True):
        assert sequence.dim == len(extractor.names)


def test_silence_is_a_gap(media: Make, make_tone: Callable) -> None:
    samples = make_tone(3.0)
    samples[48000:96000] = 0.0
    path = media("pause.wav", samples=samples, audio_codec="pcm_f32le")
    audio = extractors.extract(path, {"audio": extractors.build("speech.librosa")}).sequences["audio"]
    # A window of 40 ms is silent when less than a millionth of its power is left: those fully inside the pause.
    assert ((audio.times[:, 0] < 1.0) | (audio.times[:, 1] > 2.0)).all()
    assert np.diff(audio.times[:, 0]).max() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_rates_and_layouts_hear_the_same_pitch_and_level(
    media: Make, make_tone: Callable, rate: int, channels: int
) -> None:
    samples = make_tone(1.0, rate=rate)
    path = media("a.wav", samples=np.stack([samples] * channels), rate=rate, audio_codec="pcm_f32le")
    audio = extractors.extract(path, {"audio": extractors.build("speech.librosa")}).sequences["audio"]
    inner = audio.values[5:-5]
    assert np.abs(inner[:, audio.names.index("f0_semitones")] - 12 * np.log2(200 / 150)).max() < 0.2
    power = 0.15**2 * sum(1 / k**2 for k in range(1, 6)) / 2
    assert np.abs(inner[:, audio.names.index("energy_db")] - 10 * np.log10(power)).max() < 0.2


def test_a_file_that_breaks_off_keeps_what_came_before(media: Make, make_tone: Callable) -> None:
    frames = [np.full((64, 96, 3), i % 256, np.uint8) for i in range(250)]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 480000).astype(np.float32)
    path = media("whole.mp4", frames=frames, samples=noise, options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 5])
    using = {"audio": extractors.build("speech.librosa"), "vision": Brightness()}
    result = extractors.extract(path, using)
    assert result.missing == {}
    assert 1.0 < result.duration_seconds < 9.0
    for modality, kind in (("audio", "audio"), ("vision", "video")):
        last = result.sequences[modality].times[-1, 1]
        assert 1.0 < last <= result.duration_seconds + 0.1
        assert any(f"the {kind} stream ends after" in n and "though 10.0 s are announced" in n for n in result.notes)


def test_damage_in_the_middle_is_left_out(media: Make) -> None:
    frames = [np.full((64, 96, 3), 40 + i % 100, np.uint8) for i in range(250)]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 480000).astype(np.float32)
    path = media("damaged.mkv", frames=frames, samples=noise)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    using = {"audio": extractors.build("speech.librosa"), "vision": Brightness()}
    result = extractors.extract(path, using)
    assert result.sequences["audio"].times[0, 0] < 0.1
    assert result.sequences["audio"].times[-1, 1] > 9.5
    assert result.sequences["vision"].times[-1, 1] > 9.5
    assert result.notes


def test_an_index_without_contents(media: Make, numbered: Callable) -> None:
    path = media("hollow.mp4", frames=numbered(50), options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(extractors.MediaError, match=r"hollow.mp4: opened, but nothing in it could be decoded"):
        extractors.extract(path, {"vision": Brightness()})


def test_times_that_do_not_fit(media: Make, make_tone: Callable) -> None:
    path = media("a.m4a", samples=make_tone(1.0))
    using = {"audio": extractors.build("speech.librosa")}
    with pytest.raises(extractors.MediaError, match=r"the clip starts at 5 s, but the file ends at 1\.0"):
        extractors.extract(path, using, start_seconds=5.0)
    with pytest.raises(ValueError, match="0 <= start_seconds < end_seconds, not 2 to 1"):
        extractors.extract(path, using, start_seconds=2, end_seconds=1)
    result = extractors.extract(path, using, end_seconds=3.0)
    assert result.duration_seconds == pytest.approx(1.0, abs=0.05)
    assert "the clip ends at 3 s, but its audio stream at 1.0" in result.notes[0]


def test_a_clip_too_short_for_a_frame_is_no_broken_file(media: Make, make_tone: Callable, numbered: Callable) -> None:
    path = media("a.mp4", frames=numbered(25), samples=make_tone(1.0))
    using = {"vision": Brightness()}  # the first two of its steps have their middles at 0.05 and 0.15 s
    found = extractors.extract(path, using, start_seconds=0.06, end_seconds=0.14)
    assert len(found.sequences["vision"]) == 0
    assert set(found.missing) == {"vision"}
    assert found.duration_seconds == pytest.approx(0.08)
    with_sound = extractors.extract(
        path, {**using, "audio": extractors.build("speech.librosa")}, start_seconds=0.06, end_seconds=0.14
    )
    assert len(with_sound.sequences["audio"]) == 4  # windows of 40 ms every 20 ms: middles at 0.06, 0.08, 0.10, 0.12 s
    assert with_sound.missing.keys() == {"vision"}


def test_words_take_their_times_from_the_clip(media: Make, make_tone: Callable) -> None:
    path = media("a.m4a", samples=make_tone(4.0))
    using = {"text": extractors.build("text.lexical")}
    spread = extractors.extract(path, using, transcript="aaa bbb", start_seconds=1.0, end_seconds=3.0).sequences["text"]
    assert np.allclose(spread.times, 1.0 + np.array([[0, 3], [4, 7]]) * 2.0 / 7)
    segments = (
        extractors.Segment("one two", 0.5, 1.5),
        extractors.Segment("three", 2.0, 3.0),
        extractors.Segment("x", 3.5, 4.0),
    )
    timed = extractors.extract(
        path, using, transcript=extractors.Transcript(segments), start_seconds=1.0, end_seconds=3.0
    )
    assert np.allclose(timed.sequences["text"].times, [[0.5 + 4 / 7, 1.5], [2.0, 3.0]])
    nothing = extractors.extract(path, using, transcript=extractors.Transcript(segments[:1]), start_seconds=3.0)
    assert nothing.missing == {"text": "no words in this part of the transcript"}
    whole = extractors.extract(path, using, transcript="aaa bbb")
    assert whole.sequences["text"].times[-1, 1] == pytest.approx(4.0, abs=0.05)


def test_without_media(trio: dict) -> None:
    result = extractors.extract(None, trio, transcript="so very good")
    assert result.missing == {"audio": "no media file", "vision": "no media file"}
    assert result.sequences["text"].times.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert result.duration_seconds == 3.0
    texts = ["good", None, "bad day", ""]
    lengths = [len(s) for s in extractors.extract_texts(trio["text"], texts)]
    assert lengths == [1, 0, 2, 0]


def test_requests_that_make_no_sense(trio: dict) -> None:
    with pytest.raises(ValueError, match="no extractor given: pass a mapping"):
        extractors.extract(None, {})
    with pytest.raises(ValueError, match=r"'audio' must be an extractor, not str: see extractors.build"):
        extractors.extract(None, {"audio": "speech.librosa"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"one audio extractor per call, not 2 \(audio, other\)"):
        extractors.extract(None, {"audio": trio["audio"], "other": trio["audio"]})


def test_a_failing_extractor_frees_the_others(face_video: Path) -> None:
    vision = Brightness()
    with pytest.raises(RuntimeError, match="no such luck"):
        extractors.extract(face_video, {"vision": vision, "audio": Failing()})
    assert vision.closed == 1


class Placed(Brightness):
    """The mean grey level, of frames that it wants on a device."""

    seen: list[tuple[str, str, tuple[int, ...]]]

    def __init__(self, device: str) -> None:
        super().__init__(5.0)
        self.device, self.seen = device, []

    @property
    def frames_device(self) -> str | None:
        return self.device

    def stream(self) -> VisionStream:
        return PlacedStream(self)


class PlacedStream(BrightnessStream):
    def push(self, image: torch.Tensor, indices: Sequence[int]) -> None:
        self._extractor.seen.append((str(image.device), str(image.dtype), tuple(image.shape)))
        super().push(image.float(), indices)


def test_frames_come_as_tensors_where_they_are_wanted_so(media: Make, numbered: Callable) -> None:
    """Sampled at the same instants, of the same size and, but for swscale's tables, of the same grey."""
    path = media("a.mp4", frames=numbered(50))
    on_device = Placed("cpu")
    found = extractors.extract(path, {"vision": on_device}).sequences["vision"]
    usual = extractors.extract(path, {"vision": Brightness(5.0)}).sequences["vision"]
    assert on_device.seen == [("cpu", "torch.uint8", (180, 320, 3))] * 10
    assert np.array_equal(found.times, usual.times)
    assert np.abs(found.values - usual.values).max() < 2.0
    assert len(np.unique(found.values)) > 5


@pytest.fixture
def cannot(monkeypatch: pytest.MonkeyPatch) -> str:
    """FFmpeg finds no driver, though torch has a device."""
    monkeypatch.setattr("extractors.decoding.why_not", lambda device: "no driver")
    monkeypatch.setattr("extractors.decoding.torch_sees", lambda device: True)
    return "FFmpeg cannot use the CUDA device (no driver)"


def test_a_fallback_is_noted(media: Make, numbered: Callable, cannot: str) -> None:
    path = media("a.mp4", frames=numbered(25))
    told = extractors.extract(path, {"vision": Brightness()}, device="cuda")
    assert told.fallback == cannot
    assert told.notes == (f"frames were decoded on the CPU: {cannot}",)
    plain = extractors.extract(path, {"vision": Brightness()})
    assert (plain.fallback, plain.notes) == ("", ())
    assert np.array_equal(told.sequences["vision"].values, plain.sequences["vision"].values)
    reader = extractors.extract_windows(path, {"vision": Brightness()}, [(0.0, 0.5)], device="cuda")
    assert [w.extraction.notes for w in reader] == [(f"frames were decoded on the CPU: {cannot}",)]


def test_nobody_who_watches_nothing_to_note(media: Make, make_tone: Callable, trio: dict, cannot: str) -> None:
    path = media("a.wav", samples=make_tone(1.0), audio_codec="pcm_s16le")
    assert extractors.extract(path, {"audio": trio["audio"]}, device="cuda").notes == ()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_by_name_must_be_there(media: Make, numbered: Callable) -> None:
    path = media("a.mp4", frames=numbered(5))
    for ask in (extractors.extract, lambda *given, device: extractors.extract_windows(*given, [(0, 1)], device=device)):
        with pytest.raises(extractors.ToolError, match="device='cuda' was asked for, but neither torch nor FFmpeg"):
            ask(path, {"vision": Brightness()}, device="cuda")
        with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:N', not 'gpu'"):
            ask(path, {"vision": Brightness()}, device="gpu")


class TestListening:
    """An extractor that watches and listens gets the sound of the same pass, and what lies around a segment."""

    def test_the_sound_of_the_whole_file(self, rising: Path) -> None:
        own = Listener()
        result = extractors.extract(rising, {"vision": own})
        found = result.sequences["vision"]
        assert own.streams[0].indices == list(range(50))
        assert own.streams[0].first == 0
        assert result.notes == ("asked about 0 to inf",)
        # A sine's root mean square; in the middle of each second, away from where the amplitude jumps.
        for second in range(10):
            middle = found.values[[5 * second + 2, 5 * second + 3], 0]
            assert middle == pytest.approx((1 + second) / 20 / np.sqrt(2), rel=0.03)

    def test_a_segment_is_read_with_what_bears_on_it_and_gets_the_steps_of_the_whole(self, rising: Path) -> None:
        whole = extractors.extract(rising, {"vision": Listener()}).sequences["vision"]
        own = Listener()
        part = extractors.extract(rising, {"vision": own}, start_seconds=4.0, end_seconds=6.0)
        (stream,) = own.streams
        assert stream.indices == list(range(15, 32))  # middles from 3 s to 6.5 s
        assert (stream.first, len(stream.sound)) == (24_000, 28_000)
        assert np.array_equal(part.sequences["vision"].times, whole.times[20:30])
        assert part.sequences["vision"].values == pytest.approx(whole.values[20:30], abs=1e-4)
        assert part.duration_seconds == 2.0
        assert part.notes == ("asked about 4 to 6",)

    def test_beside_another_listener_at_its_own_rate(self, rising: Path) -> None:
        alone = [
            extractors.extract(rising, {key: one}, start_seconds=2.0, end_seconds=5.0).sequences[key]
            for key, one in (("audio", extractors.build("speech.librosa")), ("vision", Listener()))
        ]
        both = extractors.extract(
            rising,
            {"audio": extractors.build("speech.librosa"), "vision": Listener()},
            start_seconds=2.0,
            end_seconds=5.0,
        )
        for key, expected in zip(("audio", "vision"), alone, strict=True):
            assert np.array_equal(both.sequences[key].times, expected.times)
            assert both.sequences[key].values == pytest.approx(expected.values, rel=1e-4, abs=1e-4)

    def test_without_sound_it_is_told_so_and_the_picture_counts(self, media: Make, numbered: Callable) -> None:
        own = Listener()
        result = extractors.extract(media("mute.mp4", frames=numbered(10), fps=10), {"vision": own})
        assert own.streams[0].ended
        assert not len(own.streams[0].sound)
        assert len(result.sequences["vision"]) == 5

    def test_steps_around_a_segment_are_not_its_own(self, rising: Path) -> None:
        found = extractors.extract(rising, {"vision": Listener(only_before=4.0)}, start_seconds=4.0, end_seconds=6.0)
        assert found.missing == {"vision": "nothing found from 4 s to 6 s, but before or after"}
