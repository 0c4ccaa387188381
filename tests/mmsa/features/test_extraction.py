from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import mmsa.features.extraction
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.features.extraction import extract_clip, extract_jobs, in_processes, own_cores


def test_unreadable_media_costs_sound_and_picture_but_not_words(small: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    every = {"audio": small.Loudness(), "text": small.WordLengths(), "vision": small.Brightness()}
    sequences, missing, _ = extract_clip(Clip("broken", "train", {}, broken, "We SEE"), every)
    assert {key: len(sequence) for key, sequence in sequences.items()} == {"audio": 0, "text": 2, "vision": 0}
    assert set(missing) == {"audio", "vision"}
    assert missing["audio"] == missing["vision"]
    assert "broken.mp4" in missing["audio"]
    assert str(tmp_path) not in missing["audio"]
    gone = Clip("gone", "train", {}, tmp_path / "gone.mp4", "Where to", 1.0, 2.0)
    sequences, missing, _ = extract_clip(gone, every)
    assert sequences["text"].values.tolist() == [[5, 1], [2, 0]]
    assert "No such file" in missing["audio"]


def test_a_job_gets_the_modalities_it_asks_for(corpus: Corpus, small: Any) -> None:
    extractors = {"audio": small.Loudness(), "text": small.WordLengths()}
    asked = [("audio",), ("text",), ("audio", "text")]
    jobs = list(zip(corpus.clips, asked, strict=True))
    for processes in (1, 2):
        found = [tuple(sequences) for sequences, *_ in extract_jobs(jobs, extractors, processes)]
        assert found == asked
    assert small.CALLS == {"audio": 2, "text": 2}  # those of the two processes are counted there


@pytest.mark.parametrize(("cores", "here"), [(1, 3), (2, 0)])
def test_there_is_a_process_for_each_core_that_may_be_used(
    corpus: Corpus, small: Any, monkeypatch: pytest.MonkeyPatch, cores: int, here: int
) -> None:
    """One that is held to one core by a batch system starts none, however many the machine has."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(mmsa.features.extraction, "usable_cores", lambda: cores)
    found = list(extract_jobs([(clip, ("audio",)) for clip in corpus.clips], {"audio": small.Loudness()}))
    assert [len(one.sequences["audio"]) for one in found] == [2, 1, 3]
    assert small.CALLS["audio"] == here  # those of processes are counted there


def test_results_come_in_order_whichever_process_is_quicker(small: Any) -> None:
    numbers = [(str(i), i) for i in range(12)]
    found = list(in_processes(_slow_at_even, numbers, {"text": small.WordLengths()}, 2))
    assert found == [(i, ["text"]) for i in range(12)]


def _slow_at_even(number: int, extractors: Any) -> tuple[int, list[str]]:
    time.sleep(0.02 * (number % 2 == 0))
    return number, list(extractors)


def _where(job: tuple[Path, int], extractors: Any) -> tuple[int, list[int]]:
    """Which process this is and where it may run, once so many have come."""
    folder, processes = job
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 120
    while len(list(folder.iterdir())) < processes and time.monotonic() < end:
        time.sleep(0.05)
    return os.getpid(), sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes cannot be held to a core here")
def test_a_process_for_each_core_stays_there(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        pytest.skip("one core")
    text = {"text": small.WordLengths()}
    two = set(mine[:2])
    monkeypatch.setattr("os.sched_getaffinity", lambda process: two)
    assert own_cores(1) == []
    assert own_cores(2) == own_cores(3) == sorted(two)
    found = dict(in_processes(_where, [(str(i), (tmp_path, 2)) for i in range(4)], text, 2))
    assert sorted(found.values()) == [[core] for core in sorted(two)]
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {*two, 10_000})
    assert [cores for _, cores in in_processes(_where, [("a", (tmp_path, 1))], text, 2)] == [mine]


def _die_at_three(number: int, extractors: Any) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_is_killed_is_named_with_what_it_did(small: Any) -> None:
    numbers = [(f"the clip {i}", i) for i in range(6)]
    with pytest.raises(UsageError, match=r"was killed at or soon after the clip \d: out of memory"):
        list(in_processes(_die_at_three, numbers, {"text": small.WordLengths()}, 2))


ORPHANS = """
import sys, time
sys.path.insert(0, sys.argv[1])
import os, signal
import small_extractors
from mmsa.features.extraction import extract_jobs
from mmsa.corpora.clip import Clip
import multiprocessing, pathlib

if __name__ == "__main__":
    clip = Clip("a", "train", {}, pathlib.Path(sys.argv[2]), "a b")
    results = extract_jobs([(clip, ("text",))] * 40, {"text": small_extractors.WordLengths()}, 2)
    next(results)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_their_parent_is_killed(
    small: Any, tmp_path: Path, write_wav: Callable[[Path, Sequence[float]], Path]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    sound = write_wav(tmp_path / "a.wav", [0.5])
    command = [sys.executable, str(script), str(Path(small.__file__).parent), str(sound)]
    paths = [str(Path(small.__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    workers = [int(number) for number in done.stdout.split()]
    assert len(workers) == 2
    for _ in range(300):
        if not any(_is_alive(worker) for worker in workers):
            return
        time.sleep(0.1)
    pytest.fail("the workers wait for a parent that is gone")


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def batches(small: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of every batch that an extractor was given; a batch is four texts."""
    seen: list[list[str]] = []
    single = small.WordLengths.extract_many

    def watched(self: Any, transcripts: Sequence[Any]) -> Any:
        seen.append([transcript.text for transcript in transcripts])
        return single(self, transcripts)

    monkeypatch.setattr(small.WordLengths, "extract_many", watched)
    monkeypatch.setattr(mmsa.features.extraction, "BATCH", 4)
    return seen


@pytest.mark.parametrize("done", range(11))
def test_texts_are_in_the_batches_they_would_be_in_without_the_stop(
    small: Any, batches: list[list[str]], done: int
) -> None:
    words = [f"w{i}" for i in range(10)]
    clips = [Clip(word, "train", {}, transcript=word) for word in words]
    jobs = [(clip, ("text",)) for clip in clips[done:]]
    results = list(extract_jobs(jobs, {"text": small.WordLengths()}, 1, clips[:done]))
    assert [sequences["text"].values.tolist() for sequences, *_ in results] == [[[2, 0]]] * (10 - done)
    whole = [words[:4], words[4:8], words[8:]]
    assert batches == [batch for batch in whole if set(batch) & set(words[done:])]


def test_texts_without_words_say_so(small: Any, batches: list[list[str]]) -> None:
    clips = [Clip(str(i), "train", {}, transcript=words) for i, words in enumerate((None, "  ", "one"))]
    results = list(extract_jobs([(clip, ("text",)) for clip in clips], {"text": small.WordLengths()}))
    assert [missing for _, missing, _ in results] == [{"text": "no transcript"}, {"text": "no transcript"}, {}]
    assert batches == [["", "", "one"]]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Half a second of grey."""
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        out.mux(stream.encode(None))
    return path


def test_a_decoder_that_falls_back_says_so(small: Any, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device that a corpus is extracted on reaches the decoder, and its answer the user."""
    monkeypatch.setattr("extractors.decoding.why_not", lambda device: f"no driver for {device}")
    monkeypatch.setattr("extractors.decoding.torch_sees", lambda device: True)
    jobs = [(Clip("a", "train", {}, film), ("vision",))]
    told = r"frames were decoded on the CPU: FFmpeg cannot use the CUDA device \(no driver for cuda\)"
    with pytest.warns(UserWarning, match=told):
        ((sequences, missing, _),) = extract_jobs(jobs, {"vision": small.Brightness()}, device="cuda")
    assert (len(sequences["vision"]) > 0, missing) == (True, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(extract_jobs(jobs, {"vision": small.Brightness()}))


def test_processes_put_their_extractors_on_the_device() -> None:
    import extractors

    built = {"audio": extractors.build("speech.torchaudio"), "text": extractors.build("text.characters")}
    for device in ("auto", "cpu"):
        assert list(in_processes(_device_of_audio, [("one", 1)], built, 1, device)) == [device]


def _device_of_audio(_: int, extractors: Any) -> str:
    return str(extractors["audio"]._device)
