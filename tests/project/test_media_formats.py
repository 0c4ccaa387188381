"""Media of every kind: what the page `docs/media.md` says happens to them, and that it means what it should.

The page's table is made by `benchmarks/media_formats.py`. Rows that need no encoder are made again and compared; of
the others it is checked here, on small files of the same making, that the right picture is seen and the right sound
heard. What is expected follows from what was written into the file.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import extractors
from extractors.audio_track import AudioTrack
from extractors.frame_sampler import FrameSampler
from extractors.media import MediaFile

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "media.md"
RATE = 16000

REFUSED = {
    "no-frames.mp4", "no-index.mp4", "empty.mp4", "text.mp4", "noise.mp4", "playlist.mp4", "list.mp4", "pipe.mp4",
}  # fmt: skip
CHEAP = REFUSED - {"no-index.mp4"} | {"folder.mp4", "one-sample.wav", "telephone.wav", "sound.m4a"}


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules `media_files` and `media_formats` of the benchmarks."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("media_files"), importlib.import_module("media_formats")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def files(scripts: tuple[ModuleType, ModuleType]) -> ModuleType:
    return scripts[0]


@pytest.fixture(scope="module")
def table(scripts: tuple[ModuleType, ModuleType]) -> dict[str, list[str]]:
    """The page's rows by file."""
    lines = scripts[1].written(PAGE).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(scripts[1].HEADER)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    return {row[0].strip("`"): row for row in rows}


def numbered(number: int) -> np.ndarray:
    """A frame of 128 × 64 whose eight bars spell a number, least significant bit on the left."""
    bars = np.array([number >> bit & 1 for bit in range(8)], np.uint8) * 255
    return np.broadcast_to(bars.repeat(16)[None, :, None], (64, 128, 3)).copy()


def number_of(image: np.ndarray) -> int:
    middle = image[image.shape[0] // 2].mean(axis=-1)
    return sum(int(middle[image.shape[1] * (2 * bit + 1) // 16] > 127) << bit for bit in range(8))


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def seen(path: Path, fps: float = 25.0) -> dict[int, np.ndarray]:
    """The sampled frames by `k`."""
    found: dict[int, np.ndarray] = {}

    def push(image: np.ndarray, indices: Sequence[int]) -> None:
        found.update(dict.fromkeys(indices, image))

    with MediaFile(path) as media:
        media.decode(None, FrameSampler(fps, 640, push, aspect=media.pixel_aspect))
    return found


def heard(path: Path) -> np.ndarray:
    """The sound at 16 kHz, mono."""
    blocks: list[np.ndarray] = []
    with MediaFile(path) as media:
        media.decode(AudioTrack(RATE, blocks.append), None)
    return np.concatenate(blocks)


def level(samples: np.ndarray) -> float:
    """Root mean square of the middle half."""
    middle = samples[len(samples) // 4 : -len(samples) // 4].astype(np.float64)
    return float(np.sqrt(np.mean(middle**2)))


# ---- the page


def test_the_page_has_a_row_for_every_file(files: ModuleType, table: dict[str, list[str]]) -> None:
    assert [(name, row[1]) for name, row in table.items()] == [(one.name, one.about) for one in files.FILES]


def test_what_is_refused_says_so_and_the_rest_has_steps(table: dict[str, list[str]]) -> None:
    for name, (_, _, holds, audio, vision, told, code) in table.items():
        if name in REFUSED or name == "folder.mp4":
            assert (audio, vision) == ("", "")
            assert code == ("2" if name == "folder.mp4" else "1")
            assert len(told) > 20
            continue
        assert code == "0"
        assert holds
        for steps, modality in ((audio, "audio"), (vision, "vision")):
            # No step without a reason, and no reason where there are steps.
            assert (int(steps) == 0) == (f"{modality}: " in told), name
        assert int(audio) + int(vision) > 0 or name == "one-sample.wav"


@pytest.mark.parametrize("name", sorted(CHEAP))
def test_rows_that_need_no_long_encoding_are_as_the_page_says(
    scripts: tuple[ModuleType, ModuleType], table: dict[str, list[str]], name: str, tmp_path: Path
) -> None:
    files, formats = scripts
    (example,) = [one for one in files.FILES if one.name == name]
    row = formats.run(example, files.Source([numbered(0)] * 40, tone(1.6)), tmp_path)
    # How many steps a voice has is the demo's; here it is a tone.
    mine, said = list(row.cells), list(table[name])
    if row.steps.get("audio"):
        assert int(said[3]) > 0
        mine[3] = said[3]
    assert mine == said


# ---- the picture


PICTURES = (
    "h264.mp4 hevc.mp4 vp9.webm vp8.webm av1.mp4 mpeg4.avi mjpeg.avi mpeg2.ts wmv2.wmv flv1.flv prores.mov ffv1.mkv "
    "10bit.mp4 10bit-hevc.mkv 444.mp4 alpha.mov interlaced.mpg odd.mkv h263.3gp"
)


@pytest.mark.parametrize("name", PICTURES.split())
def test_every_frame_of_every_codec_is_the_right_one(files: ModuleType, name: str, tmp_path: Path) -> None:
    (example,) = [one for one in files.FILES if one.name == name]
    files.write(tmp_path / name, files.Source([numbered(k) for k in range(20)], tone(0.8)), example.picture, None)
    found = seen(tmp_path / name)
    assert {k: number_of(image) for k, image in found.items()} == {k: k for k in range(20)}
    width, height = example.picture.size or (128, 64)
    if name == "h263.3gp":  # ITU-T H.263, 4.1: its pixels are 12 wide and 11 high
        width = width * 12 // 11
    assert {image.shape for image in found.values()} == {(height, width, 3)}


def test_of_240_frames_a_second_those_are_sampled_that_are_on_screen(files: ModuleType, tmp_path: Path) -> None:
    (example,) = [one for one in files.FILES if one.name == "fast.mp4"]
    files.write(tmp_path / "a.mp4", files.Source([numbered(k) for k in range(20)], tone(0.8)), example.picture, None)
    # Encoded frame n shows the source's frame n * 25 // 240; at k / 10 seconds, n = 24 k is on screen.
    assert {k: number_of(im) for k, im in seen(tmp_path / "a.mp4", 10.0).items()} == {
        k: 24 * k * 25 // 240 for k in range(8)
    }


def corners() -> np.ndarray:
    """Grey, with red at the top left and blue at the bottom right."""
    image = np.full((64, 128, 3), 128, np.uint8)
    image[:24, :48], image[40:, 80:] = (255, 0, 0), (0, 0, 255)
    return image


@pytest.mark.parametrize(("clockwise", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_what_was_filmed_upright_is_seen_upright(files: ModuleType, clockwise: int, turns: int, tmp_path: Path) -> None:
    files.write(tmp_path / "a.mp4", files.Source([corners()] * 5, tone(0.2)), files.H264, None)
    files.turn(tmp_path / "a.mp4", clockwise)
    upright = np.rot90(corners(), turns)
    image = seen(tmp_path / "a.mp4")[0]
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 8


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p12le"])
def test_grey_levels_survive_their_bits(files: ModuleType, pixels: str, tmp_path: Path) -> None:
    """Bars of known grey, losslessly in 8, 10 and 12 bit of limited range: within its rounding of what they were."""
    greys = np.array([0, 1, 17, 60, 128, 200, 254, 255], np.uint8)
    image = np.broadcast_to(greys.repeat(16)[None, :, None], (64, 128, 3)).copy()
    files.write(
        tmp_path / "a.mkv", files.Source([image] * 3, tone(0.1)), files.Picture("ffv1", pixels, options={}), None
    )
    found = seen(tmp_path / "a.mkv")[0]
    bars = found.reshape(64, 8, 16, 3)[8:-8, :, 4:-4].astype(int)
    # 219 levels stand for 256: half a level there is 0.6 here, and one more rounding comes on the way back.
    assert np.abs(bars - greys[None, :, None, None]).max() <= 2


def test_pixels_that_are_wide_are_drawn_out(files: ModuleType, tmp_path: Path) -> None:
    (example,) = [one for one in files.FILES if one.name == "wide-pixels.mp4"]
    square = np.full((256, 256, 3), 30, np.uint8)
    square[64:192, 64:192] = 220
    files.write(tmp_path / "a.mp4", files.Source([square] * 5, tone(0.2)), example.picture, None)
    image = seen(tmp_path / "a.mp4")[0]
    assert image.shape == (256, 256, 3)
    bright = image.mean(axis=2) > 125
    assert np.abs(bright.any(axis=0).sum() - bright.any(axis=1).sum()) <= 4


# ---- the sound


def test_eight_kilohertz_keep_their_pitch_and_get_no_new_ones(files: ModuleType, tmp_path: Path) -> None:
    files.write(tmp_path / "a.wav", files.Source([], tone(1.0)), None, files.Sound("pcm_mulaw", 8000))
    sound = heard(tmp_path / "a.wav")
    assert abs(len(sound) - RATE) <= 16
    power = np.abs(np.fft.rfft(sound[:RATE])) ** 2
    assert int(power.argmax()) == 440
    assert power[4200:].sum() < 1e-4 * power.sum()  # nothing mirrored at 4 kHz
    assert level(sound) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


# ITU-R BS.775: centre 1, front 1 / sqrt 2, surround another 1 / sqrt 2 less; the low-frequency channel is left out.
# Divided by their sum, so that no sound goes beyond full scale.
SHARES = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "SL": 0.5, "SR": 0.5, "LFE": 0.0}


@pytest.mark.parametrize("channel", SHARES)
def test_a_channel_of_5_1_has_its_share(files: ModuleType, channel: str, tmp_path: Path) -> None:
    sound = files.Sound("pcm_f32le", RATE, "5.1(side)", only=channel)
    files.write(tmp_path / "a.mkv", files.Source([], tone(0.5)), None, sound)
    expected = 0.5 / np.sqrt(2) * SHARES[channel] / sum(SHARES.values())
    assert level(heard(tmp_path / "a.mkv")) == pytest.approx(expected, rel=0.01, abs=1e-6)


@pytest.mark.parametrize(("only", "share"), [(None, 1.0), ("FL", 0.5), ("FR", 0.5)])
def test_stereo_is_the_mean_of_both(files: ModuleType, only: str | None, share: float, tmp_path: Path) -> None:
    files.write(tmp_path / "a.wav", files.Source([], tone(0.5)), None, files.Sound("pcm_f32le", RATE, "stereo", only))
    assert level(heard(tmp_path / "a.wav")) == pytest.approx(0.5 / np.sqrt(2) * share, rel=0.01)


def test_of_two_tracks_the_first_is_heard(files: ModuleType, tmp_path: Path) -> None:
    files.write(tmp_path / "a.mkv", files.Source([], tone(0.5)), None, files.Sound("flac", RATE, tracks=2))
    assert level(heard(tmp_path / "a.mkv")) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


# ---- what ends early, and what is broken


@pytest.mark.parametrize(("frames", "seconds"), [(10, None), (None, 0.4)])
def test_a_stream_that_ends_early_costs_the_other_nothing(
    files: ModuleType, frames: int | None, seconds: float | None, tmp_path: Path
) -> None:
    source = files.Source([numbered(k) for k in range(40)], tone(1.6)).first(frames, seconds)
    files.write(tmp_path / "a.mkv", source, files.H264, files.Sound("flac", RATE))
    assert {k: number_of(image) for k, image in seen(tmp_path / "a.mkv").items()} == {k: k for k in range(frames or 40)}
    sound = heard(tmp_path / "a.mkv")
    assert np.allclose(sound, tone(seconds or 1.6), atol=1e-3)


@pytest.mark.parametrize("name", ["damaged.mp4", "damaged.mkv", "damaged.ts"])
def test_what_comes_before_and_after_a_hole_stays_and_the_hole_is_told(
    files: ModuleType, name: str, tmp_path: Path
) -> None:
    """The middle fifth of the bytes is zeros, and frame `k` shows `k`: behind the hole it is again the right one."""
    (example,) = [one for one in files.FILES if one.name == name]
    path, whole = tmp_path / name, files.Source([numbered(k) for k in range(200)], tone(8.0))
    files.write(path, whole, example.picture, example.sound, files.FAST_START if name.endswith("mp4") else {})
    files.damage(path)
    found = {k: number_of(image) for k, image in seen(path).items()}
    # In a transport stream the sound begins a little before the picture, as its encoder needs it, and so does time.
    right = {k for k, number in found.items() if number in (k, k - name.endswith("ts"))}
    assert right >= {*range(1, 60), *range(140, 199)}
    sound = heard(path)
    for first in (0.5, 1.0, 1.5, 2.0, 6.0, 6.5, 7.0):
        assert level(sound[round(first * RATE) : round((first + 0.5) * RATE)]) == pytest.approx(
            0.5 / np.sqrt(2), rel=0.05
        )
    told = extractors.extract(path, {"audio": extractors.build("speech.waveform"), "vision": Grey()}).notes
    assert any("of sound are missing in between" in note for note in told)
    assert any("left out" in note for note in told) or len(right) >= 199


class Grey(extractors.VisionExtractor):
    """The mean grey of each sampled frame."""

    def __init__(self) -> None:
        self.frames_per_second, self.max_side_pixels, self.names = 25.0, 640, ("grey",)
        self.spec = extractors.ExtractorSpec("tests:Grey", "numpy", "1", {})

    def stream(self) -> extractors.VisionStream:
        from extractors.vision.per_frame import PerFrameStream

        describe: Callable[..., np.ndarray] = lambda images: np.array([[im.mean()] for im in images], np.float32)  # noqa: E731
        return PerFrameStream(self, describe)
