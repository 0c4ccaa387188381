"""Opening files: what is refused and why, and what a decode pass delivers."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from extractors.audio_track import AudioTrack
from extractors.errors import MediaError
from extractors.frame_sampler import FrameSampler
from extractors.media import MediaFile

Make = Callable[..., Path]


def pictures(path: Path, fps: float = 5.0, start: float = 0.0, first: int = 0, end: int | None = None) -> dict:
    """Sampled frames by index."""
    found: dict[int, np.ndarray] = {}
    with MediaFile(path) as file:
        sampler = FrameSampler(
            fps, 320, lambda im, ks: found.update(dict.fromkeys(ks, im)), first_index=first, end_index=end
        )
        file.decode(None, sampler, start_seconds=start)
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mkv", {}),
        ("a.mov", {"video_codec": "mpeg4"}),
        ("a.avi", {"video_codec": "mpeg4", "samples": None}),
        ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus"}),
    ],
)
def test_containers(
    media: Make, make_tone: Callable, numbered: Callable, number_of: Callable, name: str, options: dict
) -> None:
    path = media(name, **{"frames": numbered(50), "samples": make_tone(2.0), **options})
    assert {k: number_of(im) for k, im in pictures(path).items()} == {k: 5 * k for k in range(10)}
    if "samples" in options:
        return
    blocks: list[np.ndarray] = []
    with MediaFile(path) as file:
        report = file.decode(AudioTrack(16000, blocks.append), None)
    sound = np.concatenate(blocks)
    assert report.complete
    assert abs(len(sound) / 16000 - 2.0) < 0.08
    spectrum = np.abs(np.fft.rfft(sound[4000:20000]))
    assert np.argmax(spectrum) == 200


def test_variable_frame_rate(media: Make, numbered: Callable, number_of: Callable) -> None:
    at = [0.0, 0.5, 0.52, 1.31, 1.95]
    path = media("vfr.mkv", frames=numbered(5), frame_seconds=at)
    shown = {k: number_of(im) for k, im in pictures(path, fps=10.0).items()}
    for k in range(19):
        assert shown[k] == sum(t <= k / 10 + 0.001 for t in at) - 1


def test_start_times_are_taken_off(media: Make, make_tone: Callable, numbered: Callable, number_of: Callable) -> None:
    """A recording whose clock starts at five seconds; the sound starts half a second after the picture."""
    at = [5.0 + i / 25 for i in range(50)]
    path = media(
        "late.ts", frames=numbered(50), frame_seconds=at, samples=make_tone(1.0), audio_start=5.5, audio_codec="mp2"
    )
    with MediaFile(path) as file:
        assert file._container.start_time >= 5_000_000
    assert {k: number_of(im) for k, im in pictures(path).items()} == {k: 5 * k for k in range(10)}
    blocks: list[np.ndarray] = []
    with MediaFile(path) as file:
        file.decode(AudioTrack(16000, blocks.append), None)
    loud = np.flatnonzero(np.abs(np.concatenate(blocks)) > 0.05)
    assert abs(loud[0] / 16000 - 0.5) < 0.05


@pytest.mark.parametrize("gop", [5, 250])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_seeking_finds_the_same_frames(
    media: Make, make_tone: Callable, numbered: Callable, number_of: Callable, name: str, gop: int
) -> None:
    path = media(name, frames=numbered(200), samples=make_tone(8.0), gop=gop)
    whole = {k: number_of(im) for k, im in pictures(path).items()}
    part = {k: number_of(im) for k, im in pictures(path, start=4.0, first=20, end=30).items()}
    assert part == {k: whole[k] for k in range(20, 30)}


@pytest.mark.parametrize(("angle", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_rotation_is_applied(media: Make, angle: int, turns: int) -> None:
    """A phone held upright writes landscape frames and a matrix that says how to turn them clockwise."""
    landscape = np.zeros((120, 200, 3), np.uint8)
    landscape[:40, :60] = (255, 0, 0)
    landscape[80:, 140:] = (0, 0, 255)
    path = media("phone.mp4", frames=[landscape] * 5)
    set_rotation(path, angle)
    upright = pictures(path)[0]
    expected = np.rot90(landscape, turns)
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).mean() < 12


def set_rotation(path: Path, angle: int) -> None:
    """Write a clockwise rotation into the track header's matrix (ISO/IEC 14496-12, 8.3.2)."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    data = bytearray(path.read_bytes())
    box = data.index(b"tkhd")
    assert data[box + 4] == 0
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    data[box + 44 : box + 80] = matrix
    path.write_bytes(data)


def test_cover_art_is_no_picture(tmp_path: Path, make_tone: Callable) -> None:
    import av

    jpeg = av.CodecContext.create("mjpeg", "w")
    jpeg.width, jpeg.height, jpeg.pix_fmt, jpeg.time_base = 64, 64, "yuvj420p", 1
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    cover = bytes(jpeg.encode(frame)[0])
    picture = b"\0image/jpeg\0\x03\0" + cover
    tag = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = len(tag)
    header = b"ID3\x03\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    from_tone = tmp_path / "plain.mp3"
    with av.open(str(from_tone), "w") as out:
        stream = out.add_stream("mp3", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(make_tone(1.0, rate=16000)[None], "fltp", "mono")
        sound.sample_rate = 16000
        out.mux(stream.encode(sound) + stream.encode(None))
    path = tmp_path / "song.mp3"
    path.write_bytes(header + tag + from_tone.read_bytes())
    with av.open(str(path)) as raw:
        assert len(raw.streams.video) == 1
    with MediaFile(path) as file:
        assert file.info.video is None
        assert file.info.audio is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file.*check the path"),
        (b"", r"is empty \(0 bytes\).*copy or record it again"),
        (b"Dear diary, this is no video.\n" * 100, "not readable as media .*convert it to MP4"),
        (bytes(range(256)) * 64, "not readable as media .*allowed are self-contained"),
    ],
)
def test_what_is_no_media(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=rf"clip\.mp4: .*{message}"):
        MediaFile(path)


def test_truncated_before_its_index(media: Make, numbered: Callable) -> None:
    path = media("cut.mp4", frames=numbered(50))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match="if it was cut off while being copied or recorded, get it again"):
        MediaFile(path)


def test_directories_and_devices(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"is a directory; .* one by one"):
        MediaFile(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match=r"is not a regular file; .* save the media to a file"):
        MediaFile(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="is not a regular file"):
        MediaFile("/dev/zero")


def test_subtitles_alone_are_no_media(tmp_path: Path) -> None:
    path = tmp_path / "words.mp4"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n\n" * 50)
    with pytest.raises(MediaError, match="not readable as media"):
        MediaFile(path)


PLAYLISTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{target}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{name}'\n",
    "dash.mp4": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        'bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ),
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n",
    "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_files_that_name_other_files_are_refused(
    media: Make, tmp_path: Path, numbered: Callable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile upload must not make the reader open another file or a connection."""
    target = media("secret.ts", frames=numbered(50))
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        path = tmp_path / name
        path.write_text(PLAYLISTS[name].format(target=target, name=target.name, port=server.getsockname()[1]))
        with pytest.raises(MediaError, match=r"not readable as media .*no playlists"):
            MediaFile(path)
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_playlists_would_work_without_the_guard(media: Make, tmp_path: Path, numbered: Callable) -> None:
    """The attack is real: FFmpeg itself follows the concat list."""
    import av

    target = media("secret.ts", frames=numbered(50))
    (tmp_path / "concat.mp4").write_text(PLAYLISTS["concat.mp4"].format(name=target.name))
    with av.open(str(tmp_path / "concat.mp4")) as container:
        assert container.format.name == "concat"
        assert len(container.streams.video) == 1


def test_protocol_names_are_taken_as_file_names() -> None:
    with pytest.raises(MediaError, match="No such file"):
        MediaFile("http://127.0.0.1:1/x.mp4")
    with pytest.raises(MediaError, match="No such file"):
        MediaFile("concat:/etc/hostname|/etc/hostname")


def test_a_length_is_announced_or_measured(media: Make, make_tone: Callable, numbered: Callable) -> None:
    path = media("clip.mkv", frames=numbered(20), fps=10, samples=make_tone(1.5))
    with MediaFile(path) as file:
        assert file.measure_seconds() == file.info.duration_seconds
    data = path.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # Matroska's Duration: eight bytes, a float64 in milliseconds
    path.write_bytes(data[:place] + struct.pack(">d", 60_000.0) + data[place + 8 :])
    with MediaFile(path) as file:
        assert file.measure_seconds() == 60.0
        assert file.measure_seconds(announced=False) == pytest.approx(2.0, abs=0.1)


def test_packets_without_times_follow_each_other(media: Make, make_tone: Callable) -> None:
    """Raw AAC has no timestamps of its own; whoever stamps them, the sum of its packets is its length."""
    path = media("sound.aac", samples=make_tone(3.0))
    with MediaFile(path) as file:
        assert file.measure_seconds(announced=False) == pytest.approx(3.0, abs=0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_cannot_be_opened_leaves_it_to_the_cpu(
    media: Make, numbered: Callable, number_of: Callable, tmp_path: Path
) -> None:
    """Really tried: there is no driver here. What is wrong with the file itself is said as ever."""
    path = media("a.mp4", frames=numbered(25))
    found: dict[int, int] = {}
    with MediaFile(path, device="cuda") as file:
        assert file.device == "cpu"
        assert file.info.video is not None
        assert file.info.video.pixel_format == "yuv420p"
        keep = FrameSampler(5.0, 320, lambda im, ks: found.update(dict.fromkeys(ks, number_of(im))))
        report = file.decode(None, keep)
    assert found == {k: 5 * k for k in range(5)}
    assert "FFmpeg could not open the GPU's decoder" in report.fallback
    assert "Could not dynamically load CUDA" in report.fallback
    (tmp_path / "text.mp4").write_text("no media")
    with pytest.raises(MediaError, match="not readable as media"):
        MediaFile(tmp_path / "text.mp4", device="cuda")
    with pytest.raises(ValueError, match="'mps' is no CUDA device"):
        MediaFile(path, device="mps")


@pytest.mark.parametrize(
    ("codec", "reason"),
    [
        ("libx264", "the GPU or its driver cannot decode this kind of h264 (yuv420p, 320 × 180)"),
        ("ffv1", "FFmpeg's decoder ffv1 has no hardware decoding"),
    ],
)
def test_frames_that_did_not_come_from_the_gpu_are_noticed(
    media: Make, numbered: Callable, monkeypatch: pytest.MonkeyPatch, codec: str, reason: str
) -> None:
    """FFmpeg goes on with the CPU by itself where the hardware refuses a stream; only its frames tell."""
    path = media("a.mkv", frames=numbered(25), video_codec=codec)
    monkeypatch.setattr("extractors.media.accelerator", lambda number, options: None)  # as if it had been refused
    with MediaFile(path, device="cuda") as file:
        assert file.device == "cuda"
        assert file.decode(None, FrameSampler(5.0, 320, lambda im, ks: None)).fallback == reason


def test_without_frames_nothing_fell_back(media: Make, make_tone: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.media.accelerator", lambda number, options: None)
    with MediaFile(media("a.wav", samples=make_tone(0.5), audio_codec="pcm_s16le"), device="cuda") as file:
        assert file.decode(AudioTrack(16000, lambda block: None), None).fallback == ""


def test_a_reason_known_before_is_passed_on(media: Make, numbered: Callable) -> None:
    with MediaFile(media("a.mp4", frames=numbered(5)), fallback="no driver") as file:
        assert file.decode(None, FrameSampler(5.0, 320, lambda im, ks: None)).fallback == "no driver"
