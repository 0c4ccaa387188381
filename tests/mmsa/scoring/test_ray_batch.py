from __future__ import annotations

import json
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mmsa.bundle import load_bundle
from mmsa.errors import UsageError
from mmsa.scoring.batch import Recipe, open_items, score_batch, scorer_of
from mmsa.scoring.cluster import connected
from mmsa.scoring.inputs import Input
from mmsa.scoring.predictor import TOGETHER
from mmsa.scoring.ray_batch import Gathering, Job, make_setup, score_alone, score_on_ray
from mmsa.scoring.results import Score
from mmsa.scoring.store import ResultFile
from mmsa.scoring.timeline import Timeline

if TYPE_CHECKING:
    from conftest import Trained

# One cluster for all: starting one takes seconds, and two would compete for the same cores.
pytestmark = pytest.mark.slow

Wav = Callable[[Path, list[float]], Path]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two CPUs of this machine; every call below uses this connection, whatever address it gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        with connected("local", cpus=2, store_megabytes=150) as ray:
            yield ray


@pytest.fixture
def recipe(cluster: Any, trained: Trained, tmp_path: Path) -> Recipe:
    return _recipe(trained, tmp_path, "bad")


def _recipe(trained: Trained, tmp_path: Path, fail_at: str, timeline: Timeline | None = None) -> Recipe:
    """The trained model, with a text extractor that fails as told (see `small_extractors.WordLengths`)."""
    bundle = load_bundle(trained.run.bundle)
    text = bundle.extractors["text"]
    spec = replace(text, parameters={**text.parameters, "fail_at": fail_at})
    folder = tmp_path / "bundle"
    replace(bundle, extractors={**bundle.extractors, "text": spec}).save(folder)
    return Recipe(folder, timeline or Timeline(), trust_extractors=True)


def _media(folder: Path, write_wav: Wav, texts: list[str], seconds: float = 1.0) -> list[Input]:
    """Tones of different loudness, each with its words beside it."""
    folder.mkdir()
    found = []
    for number, text in enumerate(texts):
        levels = [0.125 + (number + tenth) % 8 / 16 for tenth in range(round(seconds * 10))]
        path = write_wav(folder / f"{number}.wav", levels)
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
        found.append(Input(str(path), extra={"number": str(number)}))
    return found


def _workers(stage: str) -> list[int]:
    """Process ids of a stage's actors: Ray titles them so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::MapWorker(") and stage.encode() in title:
            found.append(int(folder.name))
    return found


def _told(rows: list[tuple[int, int, bytes]]) -> list[Any]:
    return [pickle.loads(data) for _, _, data in rows]  # noqa: S301 - our own


def _by_path(found: list[tuple[Input, Score]]) -> dict[str, Score]:
    assert len({item.path for item, _ in found}) == len(found)
    return {item.path: score for item, score in found}


def test_rows_are_those_of_one_process(recipe: Recipe, tmp_path: Path, write_wav: Wav) -> None:
    """Clips, a segment, bad ones of four kinds and addresses: the same rows, keys and reasons.

    `file://` stands for s3:// and the like: the workers open it through fsspec, by themselves.
    """
    items = _media(tmp_path / "in", write_wav, ["so it", "bad luck", "WONDERFUL morning"])
    broken = tmp_path / "in" / "broken.wav"
    broken.write_bytes(b"no sound")
    items += [Input(str(tmp_path / "gone.wav")), Input(items[0].path, 0.2, 0.7, id="part"), Input(str(broken))]
    items += [Input(f"file://{items[0].path}"), Input(f"file://{tmp_path}/gone.wav")]
    rows = {}
    for name, options in (("one", {}), ("ray", {"ray": "local"})):
        path = tmp_path / f"{name}.jsonl"
        with ResultFile(path, scorer_of(recipe).model, recipe.timeline.to_dict()) as file:
            list(score_batch(open_items(items, recipe, file), recipe, file=file, **options))
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows[name] = sorted(found, key=lambda row: row["key"])
    assert rows["ray"] == rows["one"]
    errors = sorted(row["error"] for row in rows["ray"] if "error" in row)
    assert len(errors) == 4
    assert "RuntimeError: met bad" in errors
    assert f"file://{tmp_path}/gone.wav: no such file" in errors


def test_long_files_come_in_parts_and_are_put_together(
    cluster: Any, trained: Trained, tmp_path: Path, write_wav: Wav
) -> None:
    """Forty windows are three parts: smoothing and summary reach over their borders, as in one process."""
    recipe = _recipe(trained, tmp_path, "", Timeline(0.5, 0.25))
    items = _media(tmp_path / "in", write_wav, ["so it", "more"], seconds=10)
    told: list[tuple[str, float]] = []
    scores = score_on_ray(items, recipe, "local", jobs=1, progress=lambda item, share: told.append((item.path, share)))
    found = _by_path(list(scores))
    for item, score in score_batch([(item, "") for item in items], recipe):
        assert len(score.windows) > 2 * TOGETHER
        assert found[item.path].windows == score.windows
        assert found[item.path].summary == score.summary
        assert found[item.path].notes == score.notes
        shares = sorted(share for path, share in told if path == item.path)
        # A part ends with its last window: after 15 and 31 hops and the window's length, then at the file's end.
        assert shares[:2] == pytest.approx([0.425, 0.825])
        assert len(shares) == 3


def test_killed_workers_lose_nothing_and_a_deadly_input_only_itself(
    cluster: Any, trained: Trained, tmp_path: Path, write_wav: Wav
) -> None:
    """All workers are killed when one file is done and another, some of whose parts are out, stands before a gate."""
    gate = tmp_path / "gate"
    recipe = _recipe(trained, tmp_path, f"gate:{gate}", Timeline(0.5, 0.25))
    items = _media(tmp_path / "in", write_wav, [""] * 5, seconds=10)
    for item, last in zip(items, ("it", "wait", "wait", "crash", "more"), strict=True):
        said = f"WEBVTT\n\n00:01.000 --> 00:02.000\nso far\n\n00:09.000 --> 00:09.500\n{last}\n"
        Path(item.path).with_suffix(".txt").unlink()
        Path(item.path).with_suffix(".vtt").write_text(said, encoding="utf-8")
    path = tmp_path / "out.jsonl"
    with ResultFile(path, scorer_of(recipe).model, recipe.timeline.to_dict()) as file:
        scores = score_batch(open_items(items, recipe, file), recipe, ray="local", file=file)
        found = [next(scores)]
        deadline = time.monotonic() + 300
        while not gate.with_suffix(".waiting").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        killed = _workers("Extracting") + _workers("Inferring")
        assert len(killed) >= 2
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        gate.touch()
        found += list(scores)
    by_path = _by_path(found)
    assert not set(killed) & set(_workers(""))
    assert len(path.read_bytes().splitlines()) == len(items)
    deadly = items.pop(3)
    assert "tried 3 times, at last alone" in (by_path.pop(deadly.path).error or "")
    for item, score in score_batch([(item, "") for item in items], recipe):
        assert by_path.pop(item.path).windows == score.windows
    assert not by_path


def test_a_model_that_a_node_does_not_see_is_sent_to_it(
    cluster: Any, recipe: Recipe, tmp_path: Path, write_wav: Wav
) -> None:
    """The bundle is put into Ray's store, and its folder is gone when a worker looks."""
    (item,) = _media(tmp_path / "in", write_wav, ["so it"])
    expected = next(score_batch([(item, "")], recipe))[1]
    setup, job = make_setup(cluster, recipe, "auto"), Job(0, item, seen=True)
    recipe.bundle.rename(tmp_path / "elsewhere")
    windows, ending = _told(score_alone(setup, job))
    assert [window.scores for window in windows.windows] == [window.scores for window in expected.windows]
    assert ending.duration_seconds == expected.duration_seconds


def test_a_node_that_cannot_score_stops_the_run(cluster: Any, recipe: Recipe, tmp_path: Path, write_wav: Wav) -> None:
    """Another model or version there, or media that this program sees and the node does not: no row says so."""
    (item,) = _media(tmp_path / "in", write_wav, ["so it"])
    gathering = Gathering([item], recipe, None)
    (job,), setup = gathering.jobs, make_setup(cluster, recipe, "local")
    unseen = replace(job, item=replace(item, path=str(tmp_path / "in" / "unseen.wav")))
    for wrong, task, message in (
        (replace(setup, digest="0" * 32), job, r"the Ray node [0-9.]+ cannot score: another model lies at"),
        (replace(setup, version="0.0"), job, r"cannot score: it has mmsa-framework .*, but this was started by 0\.0"),
        (setup, unseen, r"the Ray node [0-9.]+ does not see .*unseen\.wav: every node needs the media"),
    ):
        ((index, number, data),) = score_alone(wrong, task)
        with pytest.raises(UsageError, match=message):
            list(gathering.take(index, number, data))
    # A file that this program does not see any more either is that file's fault.
    Path(item.path).unlink()
    ((index, number, data),) = score_alone(setup, job)
    ((_, score),) = gathering.take(index, number, data)
    assert "does not see" in (score.error or "")


def test_with_nothing_to_do_no_cluster_is_looked_for(recipe: Recipe) -> None:
    assert list(score_batch([], recipe, ray="nowhere:1")) == []
