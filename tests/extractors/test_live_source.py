from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractors.errors import MediaError
from extractors.live_source import PROTOCOLS, LiveSource


@pytest.mark.parametrize(
    ("given", "kind", "address"),
    [
        (0, "camera", "/dev/video0"),
        ("2", "camera", "/dev/video2"),
        ("/dev/video1", "camera", "/dev/video1"),
        ("rtsp://host/live", "stream", "rtsp://host/live"),
        ("HTTP://host/live.m3u8", "stream", "HTTP://host/live.m3u8"),
        ("talk.mp4", "file", "talk.mp4"),
        ("/dev/sda", "file", "/dev/sda"),
    ],
)
def test_what_a_users_words_mean(given: str | int, kind: str, address: str) -> None:
    found = LiveSource.of(given)
    assert (found.kind, found.address, found.goes_on) == (kind, address, kind != "file")


@pytest.mark.parametrize("given", ["file:///etc/passwd", "concat://a", "s3://bucket/x", "srt://host:1"])
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(MediaError, match="is no kind of stream that is taken; allowed are http, https, rtsp"):
        LiveSource.of(given)


def test_no_stream_may_open_files() -> None:
    assert not [name for name, allowed in PROTOCOLS.items() if "file" in allowed.split(",")]


def test_passwords_are_not_shown() -> None:
    assert LiveSource.of("rtsp://me:secret@host/live").label == "rtsp://host/live"
    assert LiveSource.of("rtsp://host/live@2").label == "rtsp://host/live@2"
    with pytest.raises(MediaError, match=r"^http://127\.0\.0\.1:9/live: the stream cannot be opened \(Connection"):
        LiveSource.of("http://me:secret@127.0.0.1:9/live").open()


def test_a_camera_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"/dev/video99: No such file or directory; cameras here: "):
        LiveSource.of(99).check()
    path = tmp_path / "video0"
    path.write_bytes(b"no camera")
    with pytest.raises(MediaError, match="is no camera but a file"):
        LiveSource("camera", str(path)).open()


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        LiveSource.of(str(tmp_path / "gone.mp4")).check()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and its folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, directory=str(tmp_path / "web"), **named)

        def log_message(self, *told: Any) -> None:
            pass

    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "web"
    server.shutdown()
    server.server_close()


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:2.0,\n{url}\n#EXT-X-ENDLIST\n"


def test_a_servers_playlist_reaches_its_own_parts_and_no_file_here(
    served: tuple[str, Path], media: Callable[..., Path], make_tone: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    address, folder = served
    part = media("part.ts", samples=make_tone(2.0))
    (folder / "part.ts").write_bytes(part.read_bytes())
    secret = tmp_path / "secret.ts"
    secret.write_bytes(part.read_bytes())
    (folder / "own.m3u8").write_text(PLAYLIST.format(url="part.ts"), encoding="utf-8")
    container = LiveSource.of(f"{address}/own.m3u8").open()
    assert container.streams.best("audio") is not None
    container.close()
    for url in (str(secret), f"file:{secret}", f"file://{secret}"):
        (folder / "hostile.m3u8").write_text(PLAYLIST.format(url=url), encoding="utf-8")
        with pytest.raises(MediaError, match="the stream cannot be opened"):
            LiveSource.of(f"{address}/hostile.m3u8").open()
