from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mmsa.scoring.live import LiveScoring

if TYPE_CHECKING:
    from conftest import Mmsa, Trained


@pytest.fixture
def talk(tmp_path: Path, write_wav: Callable[[Path, Sequence[float]], Path]) -> Path:
    """Two seconds that get louder."""
    return write_wav(tmp_path / "talk.wav", [0.125] * 10 + [0.5] * 10)


PLAYED = ("--realtime", "--trust-extractors", "--window", 1, "--hop", 0.5, "--max-latency", 60)


def test_a_file_in_real_time_gives_a_row_per_window(
    trained: Trained, run_mmsa: Mmsa, talk: Path, tmp_path: Path
) -> None:
    output = tmp_path / "rows" / "live.jsonl"
    code, out, _ = run_mmsa("live", trained.run.id, talk, *PLAYED, "--json", "--output", output)
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["event"] for row in rows] == ["begin", "window", "window", "window", "end"]
    assert [row["start_seconds"] for row in rows[1:4]] == [0.0, 0.5, 1.0]
    assert rows[0]["options"] == {"window_seconds": 1.0, "hop_seconds": 0.5, "max_latency_seconds": 60.0}
    assert rows[4]["windows"] == 3
    assert [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] == rows


def test_people_read_a_line_per_window_and_a_summary(trained: Trained, run_mmsa: Mmsa, talk: Path) -> None:
    code, out, _ = run_mmsa("live", trained.run.id, talk, *PLAYED, "--seconds", 1.5)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"Watching {talk}: windows of 1 s every 0.5 s. Ctrl-C ends."
    assert lines[2].startswith("0:00.0–0:01.0  sentiment ")
    assert "text: no transcript" in lines[2]
    assert " s late" in lines[2]
    assert "2 windows, late by" in out
    assert "dropped: 0 windows, 0 frames; skipped: 0.0 s" in out


def test_a_file_shorter_than_a_window_is_one_window(trained: Trained, run_mmsa: Mmsa, talk: Path) -> None:
    options = ("--realtime", "--trust-extractors", "--window", 30, "--json")
    code, out, _ = run_mmsa("live", trained.run.id, talk, *options)
    assert code == 0
    window = json.loads(out.splitlines()[1])
    assert (window["start_seconds"], window["end_seconds"]) == (0.0, pytest.approx(2.0, abs=0.01))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["talk.wav"], "is neither a camera nor a stream: `mmsa score` scores a file at once"),
        (["http://me:word@127.0.0.1:9/x"], "http://127.0.0.1:9/x: reading a stream reaches into the network"),
        (["http://127.0.0.1:9/x", "--allow-remote"], r"127.0.0.1:9/x: the stream cannot be opened (Connection refused"),
        (["ftp://host/x", "--allow-remote"], "ftp is no kind of stream that is taken"),
        (["97"], "/dev/video97: No such file or directory; cameras here:"),
        (["97", "--realtime"], "--realtime plays a file at its own speed, but /dev/video97 is a camera"),
        (["gone.wav", "--realtime"], "gone.wav: No such file"),
        (["talk.wav", "--realtime", "--output", "rows.csv"], "--output takes a .jsonl file, not rows.csv"),
        (["talk.wav", "--realtime", "--max-latency", "0"], "max_latency_seconds must be above 0"),
    ],
)
def test_what_cannot_be_is_told(
    trained: Trained, run_mmsa: Mmsa, talk: Path, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    monkeypatch.chdir(talk.parent)
    code, _, err = run_mmsa("live", trained.run.id, *words, "--trust-extractors")
    assert code == 2
    assert told in err


def test_ctrl_c_ends_it_with_a_summary(
    trained: Trained, run_mmsa: Mmsa, tmp_path: Path, write_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits for a window that is not complete yet."""
    path = write_wav(tmp_path / "long.wav", [0.25] * 600)
    output = tmp_path / "live.jsonl"
    begin = LiveScoring.begin_row
    main = threading.main_thread().ident
    assert main is not None

    def and_interrupt(self: LiveScoring) -> dict[str, Any]:
        threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        return begin(self)

    monkeypatch.setattr(LiveScoring, "begin_row", and_interrupt)
    options = ("--realtime", "--trust-extractors", "--window", 50, "--output", output)
    code, out, _ = run_mmsa("live", trained.run.id, path, *options)
    assert code == 0
    assert "Ended (interrupted)." in out
    assert "it ended before a window of 50 s was complete" in out
    last = json.loads(output.read_text(encoding="utf-8").splitlines()[-1])
    assert (last["event"], last["reason"], last["windows"]) == ("end", "interrupted", 0)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("extractors-live")]


def test_a_stream_that_breaks_off_for_good_fails_after_what_it_gave(
    trained: Trained, run_mmsa: Mmsa, talk: Path, tmp_path: Path
) -> None:
    """A web server that answers once; what came before the break is scored."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    import av

    stream = tmp_path / "talk.ts"
    with av.open(str(talk)) as given, av.open(str(stream), "w") as made:
        sound = made.add_stream("mp2", rate=48000)
        resampler = av.AudioResampler("s16", "mono", 48000)
        for frame in given.decode(audio=0):
            for part in resampler.resample(frame):
                made.mux(sound.encode(part))
        made.mux(sound.encode(None))
    answers = [stream.read_bytes()]

    class Once(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not answers:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers.pop())

        def log_message(self, *told: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Once)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/live"
    try:
        options = ("--allow-remote", "--trust-extractors", "--window", 1, "--hop", 0.5, "--reconnect", 1)
        code, out, err = run_mmsa("live", trained.run.id, address, *options, "--max-latency", 60, "--json")
    finally:
        server.shutdown()
        server.server_close()
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [row["event"] for row in rows][:3] == ["begin", "window", "window"]
    assert rows[-1]["event"] == "end"
    assert "could not be reached again in 1 tries" in rows[-1]["reason"]
    assert "could not be reached again" in err
