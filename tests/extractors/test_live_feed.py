from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractors.errors import MediaError
from extractors.live_feed import LiveFeed
from extractors.live_source import LiveSource
from extractors.media import MediaFile

Media = Callable[..., Path]


def frames_of(feed: LiveFeed) -> dict[int, list[tuple[str, float]]]:
    """Everything that comes until the end, by run."""
    found: dict[int, list[tuple[str, float]]] = {}
    feed.start()
    try:
        while (first := feed.buffer.peek()) is not None:
            while (one := feed.buffer.take(first.run)) is not None:
                found.setdefault(one.run, []).append((one.kind, one.seconds))
    finally:
        feed.close()
    return found


@pytest.fixture
def clip(media: Media, numbered: Callable[..., list[np.ndarray]], make_tone: Callable[..., np.ndarray]) -> Path:
    """1.2 s: twelve frames, every fourth a keyframe, and a tone."""
    return media("clip.mp4", frames=numbered(12), fps=10, samples=make_tone(1.2), video_codec="mpeg4", gop=4)


def test_a_file_gives_every_frame_at_its_time(clip: Path) -> None:
    feed = LiveFeed(LiveSource.of(str(clip)), {"audio", "video"}, max_latency_seconds=60)
    (frames,) = frames_of(feed).values()
    assert [seconds for kind, seconds in frames if kind == "video"] == pytest.approx([k / 10 for k in range(12)])
    assert sum(kind == "audio" for kind, _ in frames) >= 1.2 * 48000 / 1024
    assert feed.latency_seconds(1.1) >= 0.0  # it was not there before its time


def test_only_what_is_wanted_is_decoded(clip: Path) -> None:
    (frames,) = frames_of(LiveFeed(LiveSource.of(str(clip)), {"video"}, max_latency_seconds=60)).values()
    assert {kind for kind, _ in frames} == {"video"}


def test_a_limit_ends_it(clip: Path) -> None:
    feed = LiveFeed(LiveSource.of(str(clip)), {"video"}, max_latency_seconds=60, seconds=0.45)
    (frames,) = frames_of(feed).values()
    assert [seconds for _, seconds in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_source_without_what_is_wanted_is_refused(media: Media, make_tone: Callable[..., np.ndarray]) -> None:
    path = media("tone.wav", samples=make_tone(0.5))
    with pytest.raises(MediaError, match=r"tone\.wav: holds nothing that is wanted here \(video\)"):
        LiveFeed(LiveSource.of(str(path)), {"video"}, max_latency_seconds=2)


def test_where_decoding_falls_behind_pictures_are_left_out_up_to_the_next_keyframe(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to be 9 s late at the sixth frame alone: it and the next ones go, and the keyframe, the ninth, comes."""
    with MediaFile(clip) as file:
        keys = [k for k, packet in enumerate(file.container.demux(video=0)) if packet.is_keyframe]
    assert keys == [0, 4, 8]
    monkeypatch.setattr(LiveFeed, "latency_seconds", lambda self, at: 9.0 if abs(at - 0.5) < 0.01 else 0.0)
    feed = LiveFeed(LiveSource.of(str(clip)), {"video"}, max_latency_seconds=2)
    (frames,) = frames_of(feed).values()
    assert [round(seconds * 10) for _, seconds in frames] == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    assert feed.left_out == 3


class Answers:
    """What a web server gives at each request: bytes, or None for an error."""

    def __init__(self, *answers: bytes | None) -> None:
        self.left = list(answers)


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    servers: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = answers.left.pop(0) if answers.left else None
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *told: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/live"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def transport(media: Media, make_tone: Callable[..., np.ndarray]) -> bytes:
    return media("live.ts", samples=make_tone(1.5)).read_bytes()


def test_a_broken_stream_is_reached_again_and_its_clock_goes_on(
    serve: Callable[[Answers], str], transport: bytes
) -> None:
    source = LiveSource.of(serve(Answers(transport, None, transport)))
    feed = LiveFeed(source, {"audio"}, max_latency_seconds=20, tries=2)
    found: dict[int, list[float]] = {}

    def read() -> None:
        while (first := feed.buffer.peek()) is not None:
            while (one := feed.buffer.take(first.run)) is not None:
                found.setdefault(one.run, []).append(one.seconds)

    feed.start()
    with pytest.raises(MediaError, match=r"broke off after .* s \(.*\), and could not be reached again in 2 tries"):
        read()
    feed.close()
    assert list(found) == [0, 1]
    assert feed.reconnects == 1
    assert found[0][0] == pytest.approx(0.0, abs=0.1)
    assert found[0] == sorted(found[0])
    # Each connection lasts 1.5 s on its own clock; between them lie the waits of half a second and a second.
    for run in (0, 1):
        assert found[run][-1] - found[run][0] == pytest.approx(1.5, abs=0.1)
    assert found[1][0] >= found[0][-1]
    assert feed.media(1).info.audio is not None


def test_a_stream_that_does_not_answer_at_all_is_told_at_once(serve: Callable[[Answers], str]) -> None:
    with pytest.raises(MediaError, match=r"the stream cannot be opened \(.*404"):
        LiveFeed(LiveSource.of(serve(Answers())), {"audio"}, max_latency_seconds=2)


def test_closing_ends_the_waiting(serve: Callable[[Answers], str], transport: bytes) -> None:
    feed = LiveFeed(LiveSource.of(serve(Answers(transport))), {"audio"}, max_latency_seconds=20, tries=50)
    feed.start()
    assert feed.buffer.peek() is not None
    feed.close()
    assert feed.buffer.peek() is None
    assert not any(thread.name == "extractors-live" for thread in threading.enumerate())
