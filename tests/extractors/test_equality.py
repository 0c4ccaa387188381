"""The same features whichever way they are asked for: every built-in extractor, one set of claims.

A long file is rendered losslessly (FFV1 and 16 kHz float PCM in Matroska: nothing is rounded, nothing resampled), so
that a difference is the extractor's or the decode pass's. What each one claims is in `CASES`; an extractor that is not
there fails the first test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import extractors
from extractors import Extractor, FeatureSequence, Segment, Transcript

RATE, FPS, SECONDS = 16000, 20, 4
ROUNDING = 2e-5
"""Relative to 1 + |value|: sums in another order, as of matrices of another size."""


@dataclass(frozen=True)
class Case:
    """An extractor and what is claimed of it.

    Attributes:
        name: in the registry.
        parameters: of its constructor; `model` names a kind of tiny model.
        segment: how far a segment's values may lie from those that the whole file has there; None where a stretch is
            seen from its own beginning.
        cut: how far a clip that was cut out and saved alone may lie from the segment; None where all that is around a
            step counts.
        edge_seconds: steps of a clip cut out that lie so near to its ends saw what is not in it.
        but: features of which `cut` does not hold.
        tracked: whether a face is followed, which another beginning disturbs for a while.
        batches: batch sizes to compare.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    segment: float | None = 0.0
    cut: float | None = 0.0
    edge_seconds: float = 0.0
    but: tuple[str, ...] = ()
    tracked: bool = False
    batches: tuple[int, ...] = ()


CHUNKS = {"chunk_seconds": 1.0, "overlap_seconds": 0.25}
WINDOWS = {"level": "functionals", "window_seconds": 1.0, "hop_seconds": 0.5}
VOICE_PERIODS = ("jitterLocal_sma3nz", "shimmerLocaldB_sma3nz")

CASES = {
    # Differences reach over 4 windows of 20 ms beside a step's own 40 ms.
    "librosa": Case("speech.librosa", {}, ROUNDING, ROUNDING, edge_seconds=0.14),
    "librosa-functionals": Case("speech.librosa", {"functionals_seconds": 0.5}, ROUNDING, ROUNDING, edge_seconds=0.51),
    "fbank": Case("speech.torchaudio", {"device": "cpu"}, ROUNDING, ROUNDING, edge_seconds=0.013),
    "mfcc": Case("speech.torchaudio", {"kind": "mfcc", "device": "cpu"}, ROUNDING, ROUNDING, edge_seconds=0.013),
    "wav2vec2": Case("speech.transformers", {"model": "audio", **CHUNKS}, ROUNDING, None, batches=(1, 3, 8)),
    # Windows of 60 ms, smoothed over three steps.
    "egemaps": Case("speech.egemaps", {}, ROUNDING, ROUNDING, edge_seconds=0.1, but=VOICE_PERIODS),
    "egemaps-functionals": Case("speech.egemaps", WINDOWS, edge_seconds=0.51),
    "waveform": Case("speech.waveform"),
    "speech-classifier": Case(
        "speech.classifier", {"model": "audio", "piece_seconds": 1.0}, None, ROUNDING, batches=(1, 3, 8)
    ),
    "facemesh": Case("facial.facemesh", tracked=True),
    "facemesh-largest": Case("facial.facemesh", {"faces": "largest", "frames_per_second": 5.0}, tracked=True),
    "face": Case("facial.transformers", {"model": "vision"}, None, ROUNDING, tracked=True, batches=(1, 3, 16)),
    "face-classifier": Case("facial.classifier", {"model": "vision"}, None, ROUNDING, tracked=True, batches=(1, 3, 16)),
    "colour": Case("vision.colour"),
    "pixels": Case("vision.pixels", {"model": "vision"}),
    "vision": Case("vision.transformers", {"model": "vision"}, ROUNDING, ROUNDING, batches=(1, 3, 16)),
    # Windows of frames lie on a grid that is counted from the media's beginning; the face in them is followed.
    "video": Case("vision.video_transformers", {"model": "video"}, ROUNDING, None, batches=(1, 3)),
    "face-video": Case("facial.video_transformers", {"model": "video"}, None, None, tracked=True, batches=(1, 3)),
    # With all faces, each is found anew in every frame.
    "face-video-all": Case(
        "facial.video_transformers", {"model": "video", "faces": "all"}, ROUNDING, None, batches=(1, 3)
    ),
    # Only what is said in a stretch is read.
    "characters": Case("text.characters", segment=None),
    "lexical": Case("text.lexical", segment=None),
    "tokens": Case("text.tokens", {"model": "text"}),
    "text": Case("text.transformers", {"model": "text"}, None, ROUNDING, batches=(1, 3, 16)),
    "text-classifier": Case("text.classifier", {"model": "text"}, None, ROUNDING, batches=(1, 3, 16)),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

# The first is on the grids of all: 0.5 s is a multiple of every hop, every sampling period and of 1/20 s.
GRID = (1.0, 3.0)
SPANS = [(0.37, 2.4142), GRID, (2.333, float(SECONDS))]

TEXT = "what a wonderful day it was ! it was awful , a wonderful wonderful day . what was it ?"


def words() -> Transcript:
    """A word every third of a second, with its time."""
    return Transcript(tuple(Segment(word, 0.05 + k / 3, 0.3 + k / 3) for k, word in enumerate(TEXT.split())))


def words_between(start: float, end: float) -> Transcript:
    """Those words whose middle lies in a span, as if the clip began there."""
    inside = [one for one in words().segments if start <= (one.start_seconds + one.end_seconds) / 2 < end]
    return Transcript(tuple(Segment(one.text, one.start_seconds - start, one.end_seconds - start) for one in inside))


@pytest.fixture(scope="module")
def pictures(astronaut: np.ndarray) -> list[np.ndarray]:
    """A face that moves through the picture while it grows darker and brighter."""
    import cv2

    found = []
    for k in range(FPS * SECONDS):
        x, y = round(40 + 40 * np.sin(k / 20)), round(20 + 20 * np.cos(k / 15))
        view = cv2.resize(astronaut[y : y + 400, x : x + 400], (160, 160), interpolation=cv2.INTER_AREA)
        found.append(np.round(view * (0.8 + 0.2 * np.sin(k / 9))).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """A voice that glides, in a little noise; voiced from the first step to the last."""
    t = np.arange(RATE * SECONDS) / RATE
    phase = 2 * np.pi * np.cumsum(150 + 50 * np.sin(2 * t)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 6)) * (0.15 + 0.05 * np.sin(7 * t))
    return (voice + 0.002 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def lossless(tmp_path_factory: pytest.TempPathFactory, pictures: list, sound: np.ndarray) -> Callable[..., Path]:
    """`lossless(start, end)`: that stretch of the long file, saved alone; written once."""
    folder, made = tmp_path_factory.mktemp("lossless"), dict[tuple[float, float], Path]()

    def write(start: float = 0.0, end: float = SECONDS) -> Path:
        if (start, end) not in made:
            frames = pictures[round(start * FPS) : round(end * FPS)]
            samples = sound[round(start * RATE) : round(end * RATE)]
            made[start, end] = write_lossless(folder / f"{start}-{end}.mkv", frames, samples)
        return made[start, end]

    return write


def write_lossless(
    path: Path,
    frames: list[np.ndarray],
    samples: np.ndarray,
    codec: str = "ffv1",
    options: dict[str, str] | None = None,
) -> Path:
    import av

    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=FPS, options=options or {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        audio = out.add_stream("pcm_f32le", rate=RATE, layout="mono")
        packets = []
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = k
            packets += video.encode(frame)
        for first in range(0, len(samples), 640):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + 640].copy(), format="flt", layout="mono")
            frame.sample_rate, frame.pts = RATE, first
            packets += audio.encode(frame)
        packets += video.encode(None) + audio.encode(None)
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.fixture(scope="module")
def build(
    tmp_path_factory: pytest.TempPathFactory,
    save_classifier: Callable[..., Path],
    video_encoders: Callable[[str], Path],
) -> Callable[..., Extractor]:
    """`build(case, **more)`: its extractor; tiny models are saved once."""
    folders: dict[str, Path] = {}

    def make(case: Case, **more: Any) -> Extractor:
        if case.name == "speech.egemaps":
            pytest.importorskip("opensmile")
        parameters = {**case.parameters, **more}
        if (kind := parameters.get("model")) is not None:
            if kind == "video":
                folders[kind] = video_encoders("videomae")
            elif kind not in folders:
                target = tmp_path_factory.mktemp("models") / kind
                folders[kind] = save_classifier("image" if kind == "vision" else kind, target, ["low", "high", "none"])
            parameters["model"] = str(folders[kind])
        return extractors.build(case.name, **parameters)

    return make


def extract(path: Path, extractor: Extractor, span: tuple[float, float] | None = None) -> FeatureSequence:
    start, end = span or (None, None)
    found = extractors.extract(
        path, {extractor.modality: extractor}, transcript=words(), start_seconds=start, end_seconds=end
    )
    assert found.notes == ()
    return found.sequences[extractor.modality]


def check(found: FeatureSequence, expected: FeatureSequence, limit: float) -> None:
    """The same steps, and values as near as that; 0 is bit for bit."""
    assert len(found)
    np.testing.assert_allclose(found.times, expected.times, rtol=0, atol=1e-9)
    apart = np.abs(found.values - expected.values) / (1.0 + np.abs(expected.values))
    assert apart.max() <= limit, found.names[int(apart.max(axis=0).argmax())]


def test_every_built_in_extractor_has_its_claims() -> None:
    assert {case.name for case in CASES.values()} == set(extractors.available())


@every_case
def test_a_segment_a_window_and_a_clip_cut_out_are_that_span_of_the_whole(
    case: Case, build: Callable[..., Extractor], lossless: Callable[..., Path]
) -> None:
    extractor = build(case)
    whole = extract(lossless(), extractor)
    parts = {span: extract(lossless(), extractor, span) for span in SPANS}
    every = np.concatenate([whole.values, *(part.values for part in parts.values())])
    assert np.ptp(every, axis=0).max() > 10 * ROUNDING  # something is told apart, so that equality says something
    windows = extractors.extract_windows(lossless(), {extractor.modality: extractor}, SPANS, transcript=words())
    for window in windows:
        span = (window.start_seconds, window.end_seconds)
        found = window.extraction.sequences[extractor.modality]
        if case.segment is not None and not case.tracked:
            check(parts[span], whole.between(*span), case.segment)
        # A pass in windows follows the face through the whole file, a segment from its beginning.
        check(found, whole.between(*span) if case.tracked else parts[span], ROUNDING if case.cut is None else case.cut)
    if case.cut is not None:
        _check_cut(case, parts[GRID], cut_out(lossless(*GRID), extractor))


def cut_out(path: Path, extractor: Extractor) -> FeatureSequence:
    said = {"transcript": words_between(*GRID)}
    return extractors.extract(path, {extractor.modality: extractor}, **said).sequences[extractor.modality]


def _check_cut(case: Case, segment: FeatureSequence, alone: FeatureSequence) -> None:
    """A clip saved alone, `GRID[0]` later, against the segment; without what saw beyond its ends."""
    kept = [i for i, name in enumerate(segment.names) if name not in case.but]
    names = tuple(segment.names[i] for i in kept)
    moved = FeatureSequence(alone.values[:, kept], alone.times + GRID[0], names)
    expected = FeatureSequence(segment.values[:, kept], segment.times, names)
    inner = (GRID[0] + case.edge_seconds, GRID[1] - case.edge_seconds)
    check(moved.between(*inner), expected.between(*inner), case.cut or 0.0)


def test_clips_that_follow_each_other_lose_no_step(
    build: Callable[..., Extractor], lossless: Callable[..., Path]
) -> None:
    """Cut where the middles of steps lie, which floating-point numbers hit from either side."""
    cuts = [0.0, *(k / 10 for k in range(1, 39, 2)), float(SECONDS)]
    for extractor in (build(CASES["colour"], frames_per_second=5.0), build(CASES["waveform"])):
        whole = extract(lossless(), extractor)
        parts = [extract(lossless(), extractor, span) for span in pairwise(cuts)]
        windows = extractors.extract_windows(lossless(), {extractor.modality: extractor}, list(pairwise(cuts)))
        for found in (parts, [window.extraction.sequences[extractor.modality] for window in windows]):
            assert np.array_equal(np.concatenate([part.times for part in found]), whole.times)
            assert np.array_equal(np.concatenate([part.values for part in found]), whole.values)


@pytest.mark.parametrize("name", ["facemesh", "facemesh-largest"])
def test_a_tracker_that_begins_with_a_segment_soon_sees_what_one_sees_that_ran_before(
    name: str, build: Callable[..., Extractor], lossless: Callable[..., Path]
) -> None:
    """What `docs/extractors.md` says of `facial.facemesh`: near from the first step, and nearer after a second."""
    extractor = build(CASES[name], frames_per_second=10.0)
    whole = extract(lossless(), extractor)
    in_degrees = np.array([key.endswith("_degrees") for key in whole.names])
    for span in SPANS:
        part, expected = extract(lossless(), extractor, span), whole.between(*span)
        assert np.array_equal(part.times, expected.times)
        apart = np.abs(part.values - expected.values)
        late = part.times[:, 0] >= span[0] + 1.0
        assert late.sum() >= 6
        for which, degrees, rest in ((~late, 2.0, 0.08), (late, 0.5, 0.03)):
            assert apart[which][:, in_degrees].max() < degrees
            assert apart[which][:, ~in_degrees].max() < rest


@pytest.mark.parametrize(
    "case", [one for one in CASES.values() if one.batches], ids=[k for k in CASES if CASES[k].batches]
)
def test_batch_sizes_change_nothing(case: Case, build: Callable[..., Extractor], lossless: Callable[..., Path]) -> None:
    first, *others = (extract(lossless(), build(case, batch_size=size)) for size in case.batches)
    for other in others:
        check(other, first, ROUNDING)
    assert build(case, batch_size=case.batches[0]).spec.fingerprint == build(case).spec.fingerprint


@pytest.mark.parametrize("name", ["text", "text-classifier", "tokens", "lexical", "characters"])
def test_texts_read_together_are_what_each_is_alone(name: str, build: Callable[..., Extractor]) -> None:
    extractor = build(CASES[name])
    texts = ["what a day", "awful", None, TEXT, "it was wonderful , wonderful"]
    for text, found in zip(texts, extractors.extract_texts(extractor, texts), strict=True):
        alone = extractors.extract(None, {"text": extractor}, transcript=text).sequences["text"]
        assert len(found) == len(alone)
        if text is not None:
            check(found, alone, ROUNDING)


def test_a_clip_cut_out_packet_by_packet_has_the_numbers_of_the_segment(
    pictures: list, sound: np.ndarray, tmp_path: Path
) -> None:
    """H.264 with B-frames, copied from a keyframe on without being encoded again, as `ffmpeg -c copy` does."""
    import av

    long, short = tmp_path / "long.mkv", tmp_path / "short.mkv"
    write_lossless(long, pictures, sound, "libx264", {"bf": "2", "g": str(FPS), "crf": "30"})
    with av.open(str(long)) as source, av.open(str(short), "w") as out:
        made = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        held = [p for p in source.demux() if p.dts is not None]
        video = [p for p in held if p.stream.type == "video"]
        begin = next(i for i, p in enumerate(video) if p.is_keyframe and p.pts * p.time_base >= GRID[0])
        assert any(later.pts < earlier.pts for earlier, later in pairwise(video))  # there are B-frames
        after = [p for p in video[begin:] if p.pts * p.time_base < GRID[1]]
        voice = [p for p in held if p.stream.type == "audio" and GRID[0] <= p.pts * p.time_base < GRID[1]]
        for packet in sorted([*after, *voice], key=lambda p: p.dts * p.time_base):
            shift = round(GRID[0] / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = made[packet.stream.index]
            out.mux(packet)
    using = {
        "vision": extractors.build("vision.colour", frames_per_second=10.0),
        "audio": extractors.build("speech.waveform"),
    }
    segment = extractors.extract(long, using, start_seconds=GRID[0], end_seconds=GRID[1])
    alone = extractors.extract(short, using)
    for key in using:
        moved = FeatureSequence(
            alone.sequences[key].values, alone.sequences[key].times + GRID[0], alone.sequences[key].names
        )
        check(moved, segment.sequences[key], 0.0)
    assert len(alone.sequences["vision"]) == 20
    assert len(alone.sequences["audio"]) == 100


@pytest.mark.parametrize(
    ("name", "more"), [("facemesh", {}), ("facemesh", {"faces": "speaking"}), ("face", {}), ("librosa", {})]
)
def test_one_core_computes_what_two_do(
    name: str,
    more: dict[str, str],
    build: Callable[..., Extractor],
    lossless: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On one core nothing has a thread of its own."""
    found = []
    for cores in (1, 2):
        monkeypatch.setattr("extractors.overlap.usable_cores", lambda cores=cores: cores)
        found.append(extract(lossless(), build(CASES[name], **more)))
    check(*found, 0.0)


@pytest.mark.slow
def test_two_processes_compute_what_one_does(build: Callable[..., Extractor], lossless: Callable[..., Path]) -> None:
    """Every extractor, built again from its spec in each process: byte by byte."""
    from mmsa.corpora.clip import Clip
    from mmsa.features.extraction import extract_clip, in_processes

    using = {key: build(case) for key, case in CASES.items()}
    clip = Clip("one", "train", {}, lossless(), TEXT, *GRID)
    found = in_processes(_extract_one, [(name, (name, clip)) for name in using], using, 2)
    for (name, extractor), (values, times) in zip(using.items(), found, strict=True):
        sequences, missing, _ = extract_clip(clip, {name: extractor})
        assert missing == {}
        assert values == sequences[name].values.tobytes(), name
        assert times == sequences[name].times.tobytes(), name


def _extract_one(job: Any, using: Mapping[str, Extractor]) -> tuple[bytes, bytes]:
    from mmsa.features.extraction import extract_clip

    name, clip = job
    sequence = extract_clip(clip, {name: using[name]}).sequences[name]
    return sequence.values.tobytes(), sequence.times.tobytes()
