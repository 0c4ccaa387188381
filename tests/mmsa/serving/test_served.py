from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mmsa.scoring import Scorer, load_scorer
from mmsa.scoring.exports import records
from mmsa.serving.served import ServedModel
from mmsa.serving.settings import ServeSettings
from mmsa.tracking import tracking_uri

if TYPE_CHECKING:
    from conftest import Trained

ROOT = Path(__file__).resolve().parents[3]
WriteWav = Callable[[Path, Sequence[float]], Path]


@pytest.fixture
def scorer(trained: Trained) -> Scorer:
    return load_scorer(trained.run.id, trust_extractors=True)


@pytest.fixture
def media(tmp_path: Path, write_wav: WriteWav) -> Path:
    """A folder with two seconds that get louder, under the name `talk.wav`."""
    folder = tmp_path / "media"
    folder.mkdir()
    write_wav(folder / "talk.wav", [0.125] * 10 + [0.5] * 10)
    return folder


@pytest.fixture
def model(scorer: Scorer, media: Path) -> ServedModel:
    return ServedModel(scorer, ServeSettings(roots=(media.resolve(),), max_seconds=5, max_rows=6, max_windows=20))


def test_a_path_and_an_upload_give_what_the_scorer_gives(model: ServedModel, scorer: Scorer, media: Path) -> None:
    talk = media / "talk.wav"
    rows = [
        {"path": "talk.wav", "media": None, "id": "a", "text": "so it", "start": None, "end": None},
        {"path": None, "media": talk.read_bytes(), "id": None, "text": None, "start": 1.0, "end": 2.0},
    ]
    answer = model.predict(pd.DataFrame(rows))
    expected = [scorer.score(talk, text="so it"), scorer.score(talk, start_seconds=1.0, end_seconds=2.0)]
    assert list(answer["row"]) == [0, 1]
    assert list(answer["path"]) == ["talk.wav", "upload"]
    assert list(answer["id"]) == ["a", None]
    for number, score in enumerate(expected):
        (wanted,) = records(score)
        for name in set(wanted) - {"path", "id", "segment_start_seconds", "segment_end_seconds", "text", "speaker"}:
            assert answer.loc[number, name] == wanted[name], name


def test_the_answers_hold_no_column_of_the_export_less(model: ServedModel, scorer: Scorer, media: Path) -> None:
    """All columns that scoring can fill are there, but those that repeat the request."""
    (record,) = records(scorer.score(media / "talk.wav", text="so it"))
    answer = model.predict(pd.DataFrame({"path": ["talk.wav"], "text": ["so it"]}))
    assert set(record) - set(answer.columns) == {"segment_start_seconds", "segment_end_seconds", "text", "speaker"}


def test_windows_are_rows(model: ServedModel, scorer: Scorer, media: Path) -> None:
    answer = model.predict(pd.DataFrame({"path": ["talk.wav"]}), {"window_seconds": 1.0, "hop_seconds": 0.0})
    expected = scorer.score(media / "talk.wav", window_seconds=1.0).windows
    assert list(answer["window"]) == [0, 1, 2]
    assert list(answer["start_seconds"]) == [0.0, 0.5, 1.0]
    assert list(answer["sentiment"]) == [window.scores["sentiment"].value for window in expected]
    assert list(answer["sentiment.smoothed"]) == [window.smoothed["sentiment"].value for window in expected]


def test_a_bad_row_gets_its_error_and_the_others_their_scores(model: ServedModel, media: Path) -> None:
    (media / "broken.mp4").write_bytes(b"nothing")
    rows = [
        {"path": "broken.mp4"},
        {"path": "/etc/passwd"},
        {"path": "talk.wav", "start": 3.0},
        {},
        {"path": "talk.wav", "media": b"x"},
        {"path": "talk.wav"},
        {"path": "talk.wav"},
    ]
    answer = model.predict(pd.DataFrame(rows))
    told = list(answer["error"])
    assert told[0].startswith("broken.mp4: not readable as media")
    assert "/etc/passwd: does not lie below the folders" in told[1]
    assert told[2].startswith("talk.wav: the clip starts at 3 s, but the file ends at 2.00 s")
    assert "a row needs a path, or the file's bytes as media (base64 in JSON), but has neither" in told[3]
    assert "but has both path and media" in told[4]
    assert told[5] is None
    assert told[6].startswith("row 7 of the request, but at most 6 are scored; MMSA_SERVE_MAX_ROWS")
    assert [value is None for value in answer["sentiment"]] == [True] * 5 + [False, True]


def test_errors_do_not_name_where_things_lie(model: ServedModel, media: Path) -> None:
    answer = model.predict(pd.DataFrame([{"media": b"no media at all"}, {"path": "gone.wav"}]))
    assert answer.loc[0, "error"].startswith("upload: not readable as media")
    assert answer.loc[1, "error"].startswith("gone.wav: No such file")
    assert not [told for told in answer["error"] if str(media) in told or tempfile.gettempdir() in told]


def test_no_upload_stays_behind(
    model: ServedModel, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    answer = model.predict(pd.DataFrame({"media": [(media / "talk.wav").read_bytes(), b"broken"]}))
    assert [told is None for told in answer["error"]] == [True, False]
    assert list(folder.iterdir()) == []


def test_longer_media_than_allowed_are_scored_by_their_parts(
    model: ServedModel, media: Path, write_wav: WriteWav
) -> None:
    write_wav(media / "long.wav", [0.25] * 60)
    answer = model.predict(pd.DataFrame([{"path": "long.wav"}, {"path": "long.wav", "start": 1.0, "end": 6.0}]))
    assert answer.loc[0, "error"].startswith("long.wav: 6.0 s of media, but at most 5 s are scored; give start and end")
    assert "MMSA_SERVE_MAX_SECONDS (or max_seconds in model_config)" in answer.loc[0, "error"]
    assert answer.loc[1, "error"] is None


def test_a_file_that_lies_about_its_length_is_measured(model: ServedModel, media: Path, write_wav: WriteWav) -> None:
    """Matroska's announced duration is eight bytes that nothing checks: here they say one second instead of six."""
    import struct

    import av

    source = write_wav(media / "long.wav", [0.25] * 60)
    liar = media / "liar.mka"
    with av.open(str(source)) as given, av.open(str(liar), "w", format="matroska") as made:
        stream = made.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    data = liar.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # the element Duration, eight bytes long: a float64 in milliseconds
    assert struct.unpack(">d", data[place : place + 8])[0] == pytest.approx(6000, abs=100)
    liar.write_bytes(data[:place] + struct.pack(">d", 1000.0) + data[place + 8 :])
    with av.open(str(liar)) as opened:
        assert opened.duration == 1_000_000
    answer = model.predict(pd.DataFrame({"path": ["liar.mka"]}))
    assert "liar.mka: 6.0 s of media, but at most 5 s" in answer.loc[0, "error"]


def test_too_many_windows_are_refused_before_any_is_scored(model: ServedModel) -> None:
    answer = model.predict(pd.DataFrame({"path": ["talk.wav"]}), {"window_seconds": 0.2, "hop_seconds": 0.01})
    (told,) = answer["error"]
    assert told.startswith("talk.wav: a window every 0.01 s makes 200, but at most 20 are scored")
    assert "MMSA_SERVE_MAX_WINDOWS" in told


def test_wrong_parameters_are_told_in_every_row(model: ServedModel) -> None:
    answer = model.predict(pd.DataFrame({"path": ["talk.wav", "talk.wav"]}), {"window_seconds": 0, "hop_seconds": 1})
    assert ["hop_seconds is the distance of windows" in told for told in answer["error"]] == [True, True]


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.0,\n{url}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{url}'\n",
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"><Period>'
    '<AdaptationSet mimeType="audio/wav"><Representation id="1"><BaseURL>{url}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("address", ["{path}", "file:{path}", "file://{path}", "http://127.0.0.1:{port}/talk.wav"])
def test_a_playlist_reads_no_other_file(
    model: ServedModel, media: Path, kind: str, address: str, tmp_path: Path
) -> None:
    """A hostile upload that names another file, or an address: nothing of it is opened, and nobody is called."""
    called: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def listen() -> None:
            connection, _ = listener.accept()
            called.append(True)
            connection.close()

        waiting = threading.Thread(target=listen, daemon=True)
        waiting.start()
        secret = tmp_path / "talk.wav"
        secret.write_bytes((media / "talk.wav").read_bytes())
        url = address.format(path=secret, port=listener.getsockname()[1])
        hostile = PLAYLISTS[kind].format(url=url).encode()
        for name in ("list.mp4", f"list.{kind}"):
            (media / name).write_bytes(hostile)
        rows = [{"media": hostile}, {"path": "list.mp4"}, {"path": f"list.{kind}"}]
        answer = model.predict(pd.DataFrame(rows))
        assert ["not readable as media" in told for told in answer["error"]] == [True] * 3
        assert called == []
        socket.create_connection(listener.getsockname()).close()  # so that the thread ends
        waiting.join()


def test_requests_at_once_are_scored_one_after_the_other(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0
    real = model.scorer.score_clip

    def slow(*given: Any, **named: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        found = real(*given, **named)
        inside -= 1
        return found

    monkeypatch.setattr(model.scorer, "score_clip", slow)
    answers: list[pd.DataFrame] = []
    request = pd.DataFrame({"path": ["talk.wav"]})
    threads = [threading.Thread(target=lambda: answers.append(model.predict(request))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.loc[0, "error"] for answer in answers] == [None] * 4
    assert most == 1


@contextmanager
def serving(uri: str, port: int, env: dict[str, str]) -> Iterator[str]:
    """`mlflow models serve`, until it answers; it and its children are stopped afterwards."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{address}/ping", timeout=2).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        break
                    time.sleep(0.2)
            else:
                log.seek(0)
                pytest.fail(f"the server does not answer: {log.read().decode()[-3000:]}")
            if process.poll() is not None:
                log.seek(0)
                pytest.fail(f"the server ended: {log.read().decode()[-3000:]}")
            yield address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ask(address: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/invocations", body, headers), timeout=60) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())["predictions"]
    return found


@pytest.mark.slow
def test_mlflow_serves_a_run_over_http(trained: Trained, scorer: Scorer, media: Path) -> None:
    try:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no port can be had: {error}")
    env = os.environ | {
        "MLFLOW_TRACKING_URI": tracking_uri(),
        "MMSA_SERVE_ROOTS": str(media),
        "MMSA_SERVE_TRUST_EXTRACTORS": "1",
        # MLflow starts uvicorn by its name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "mmsa")]),
    }
    talk = media / "talk.wav"
    upload = base64.b64encode(talk.read_bytes()).decode()
    expected = scorer.score(talk, text="so it")
    with serving(f"runs:/{trained.run.id}/bundle", port, env) as address:
        (row,) = ask(address, {"dataframe_records": [{"media": upload, "text": "so it", "id": "first"}]})
        assert (row["row"], row["id"], row["error"]) == (0, "first", None)
        assert row["sentiment"] == pytest.approx(expected.scores["sentiment"].value, abs=1e-6)
        assert row["emotion"] == expected.scores["emotion"].label
        windows = ask(
            address,
            {
                "dataframe_split": {"columns": ["path"], "data": [["talk.wav"], ["../run.db"]]},
                "params": {"window_seconds": 1.0},
            },
        )
        assert [one["start_seconds"] for one in windows] == [0.0, 0.5, 1.0, None]
        assert "does not lie below the folders" in windows[3]["error"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(address, {"nonsense": 1})
        (again,) = ask(address, {"dataframe_records": [{"media": upload, "text": "so it"}]})
        assert again["sentiment"] == row["sentiment"]


def test_a_still_image_has_no_length_to_check(scorer: Scorer, media: Path) -> None:
    """It is handed on to the scorer, which says what a model of sound and words makes of it."""
    from PIL import Image

    Image.new("RGB", (8, 8)).save(media / "picture.png")
    model = ServedModel(scorer, ServeSettings(roots=(media.resolve(),)))
    answer = model.predict(pd.DataFrame({"path": ["picture.png"] * 2, "text": ["so it", None]}))
    assert answer.loc[0, "error"] is None
    assert "a still image has no sound" in answer.loc[0, "missing"]
    assert "nothing to score" in answer.loc[1, "error"]


def test_a_wav_cut_off_is_scored_as_far_as_it_goes(model: ServedModel, media: Path) -> None:
    whole = (media / "talk.wav").read_bytes()
    with wave.open(str(media / "talk.wav"), "rb") as file:
        assert file.getnframes() == 16000
    answer = model.predict(pd.DataFrame({"media": [whole[: 44 + 16000]]}))  # one second of two
    assert answer.loc[0, "error"] is None
    assert answer.loc[0, "end_seconds"] == pytest.approx(1.0, abs=0.05)
