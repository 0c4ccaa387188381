from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import mmsa.resume
from mmsa.bundle import load_bundle
from mmsa.checkpoint import Checkpoint, Checkpoints
from mmsa.config import TrainConfig
from mmsa.corpora.clip import Corpus
from mmsa.errors import UsageError
from mmsa.features import FeatureTable
from mmsa.resume import (
    CONFIG_TAG,
    FinishedError,
    checkpoint_folder,
    checkpoint_notes,
    config_tag,
    environment,
    find_unfinished,
    identity,
    open_checkpoints,
    reopen_run,
)
from mmsa.runs import Workshop, resume, train
from mmsa.tasks import Regression
from mmsa.tracking import client, open_run

if TYPE_CHECKING:
    from conftest import Trained

    from mmsa.training import Epoch

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
CURVES = ("train/loss", "valid/loss", "valid/emotion.uar", "engine/learning_rate", "test/sentiment.mae", "best_epoch")


class StoppedError(Exception):
    """What ends a training in these tests."""


def stop_after(number: int) -> Callable[[Epoch], None]:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == number:
            raise StoppedError

    return on_epoch


def started(config: TrainConfig, epochs: int) -> str:
    """The id of a run that was stopped after so many epochs."""
    ids: list[str] = []
    with pytest.raises(StoppedError):
        train(config, on_epoch=stop_after(epochs), on_start=lambda run_id, _: ids.append(run_id))
    return ids[0]


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client().get_metric_history(run_id, key)]


def test_a_resumed_run_is_the_one_that_was_never_stopped(trained: Trained, untrained: TrainConfig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained.workspace)
        curves = {key: history(trained.run.id, key) for key in CURVES}
        expected = load_bundle(trained.run.bundle).model.state_dict()
    run_id = started(untrained, 5)
    assert client().get_run(run_id).info.status == "FAILED"
    kept = checkpoint_folder(run_id)
    assert kept == Path.cwd() / "mlruns" / "checkpoints" / run_id
    seen: list[Any] = []
    run = resume(on_epoch=lambda epoch: seen.append(epoch.number), on_start=lambda *told: seen.append(told))
    assert seen == [(run_id, 5), *range(6, 13)]
    assert run.id == run_id
    assert run.metrics == trained.run.metrics
    assert (run.epochs, run.best_epoch, run.notes) == (12, trained.run.best_epoch, trained.run.notes)
    for key, values in curves.items():
        assert history(run_id, key) == values, key
    for key, value in load_bundle(run.bundle).model.state_dict().items():
        assert torch.equal(value, expected[key]), key
    found = client().get_run(run_id)
    assert found.info.status == "FINISHED"
    assert not kept.exists()
    for name in (run_id, "latest"):
        with pytest.raises(FinishedError, match=r"is finished.*there is nothing to go on with"):
            resume(name)


def test_another_number_of_processes_is_noted(tmp_path: Path) -> None:
    here = environment(CPU)
    assert here["processes"] == 1
    before = Checkpoint({}, {"environment": {**here, "processes": 2}})
    (note,) = checkpoint_notes(Checkpoints(tmp_path, {}, here), before)
    assert note.startswith("Gone on with in another place (processes 2, then 1)")


def test_metrics_that_a_kill_cut_off_are_logged_once(untrained: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between an epoch's checkpoint and its metrics, or in the middle of them."""
    config = untrained.model_copy(update={"epochs": 4})
    run_id = started(config, 2)
    with reopen_run(run_id) as run:  # as if epoch 3 had been logged in part, and epoch 2 not at all
        run.metrics({"train/loss": 0.5}, 3)
    assert [step for step, _ in history(run_id, "train/loss")] == [1, 2, 3]
    client().set_terminated(run_id, "KILLED")
    resume(run_id)
    assert [step for step, _ in history(run_id, "train/loss")] == [1, 2, 3, 4]
    assert [step for step, _ in history(run_id, "valid/loss")] == [1, 2, 3, 4]
    assert history(run_id, "train/loss")[2] == (3, 0.5)


def test_a_run_that_left_no_checkpoint_starts_again(untrained: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the first epoch's end: the run's own tag holds its settings."""
    config = untrained.model_copy(update={"epochs": 2, "checkpoints": False})
    run_id = started(config, 1)
    assert not checkpoint_folder(run_id).exists()
    assert find_unfinished(run_id).config == config
    run = resume(run_id)
    assert (run.id, run.epochs) == (run_id, 2)
    assert [step for step, _ in history(run_id, "train/loss")] == [1, 2]


class TestRefusals:
    def test_other_labels(self, untrained: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        run_id = started(untrained, 1)
        real = mmsa.resume._corpus_digest
        monkeypatch.setattr(mmsa.resume, "_corpus_digest", lambda corpus: real(replace(corpus, clips=corpus.clips[1:])))
        with pytest.raises(UsageError, match=r"has changed \(corpus: was 'small, 31 clips, .* is 'small, 30 clips"):
            resume(run_id)
        monkeypatch.undo()

    def test_one_that_is_being_trained(self, untrained: TrainConfig) -> None:
        run_id = started(untrained, 1)
        before = client().get_run(run_id).info.status
        with Checkpoints(checkpoint_folder(run_id), {}).locked(), pytest.raises(UsageError, match="another process"):
            resume(run_id)
        assert client().get_run(run_id).info.status == before

    def test_one_that_is_not_there(self, workspace: Path) -> None:
        with pytest.raises(UsageError, match=r"there is no run 'abc' in sqlite.*--resume takes an MLflow run id or"):
            resume("abc")
        with pytest.raises(FinishedError, match=r"every training in .* is finished"):
            resume("latest")

    def test_without_any_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match=r"no run yet in .*mlruns: `mmsa train` starts one"):
            resume()
        assert not (tmp_path / "mlruns").exists()

    def test_one_that_is_no_training(self, workspace: Path) -> None:
        with open_run("made", "a sweep", {}, kind="sweep") as run:
            pass
        with pytest.raises(UsageError, match="is not a training"):
            resume(run.run_id)

    def test_one_without_anything_to_start_from(self, workspace: Path) -> None:
        with pytest.raises(StoppedError), open_run("made", "old", {}) as run:
            raise StoppedError
        with pytest.raises(UsageError, match=r"left no checkpoint in .*: start it again"):
            resume(run.run_id)


def test_latest_is_the_newest_unfinished_training(untrained: TrainConfig) -> None:
    started(untrained, 1)
    second = started(untrained.model_copy(update={"seed": 2}), 1)
    assert find_unfinished("latest").id == second
    assert find_unfinished("latest").config.seed == 2


def test_a_store_elsewhere_has_its_checkpoints_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere")
    assert checkpoint_folder("abc") == tmp_path / "cache" / "checkpoints" / "abc"


def test_a_long_configuration_stays_out_of_the_tags() -> None:
    config = TrainConfig(head={"primary": "x" * 6000})
    assert config_tag(config) == {}
    assert TrainConfig.model_validate_json(config_tag(TrainConfig())[CONFIG_TAG]) == TrainConfig()


class TestIdentity:
    @pytest.fixture
    def shop(self, make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> Workshop:
        task = Regression("sentiment", -1, 1)
        corpus = make_corpus((task,), ["train", "test"], [{"sentiment": 0.5}, {}])
        tables = {"text": make_table("text", [np.ones((2, 3)), np.zeros((1, 3))])}
        return Workshop(corpus, (task,), {}, tables, tables)

    def changed(self, shop: Workshop, other: Workshop) -> list[str]:
        before, now = identity(TrainConfig(), shop), identity(TrainConfig(), other)
        return [key for key in before if before[key] != now[key]]

    def test_the_same_again(self, shop: Workshop) -> None:
        assert self.changed(shop, replace_table(shop)) == []

    def test_what_changes_it(self, shop: Workshop) -> None:
        table = shop.tables["text"]
        values = table.values.copy()
        values[1, 2] = 7
        assert self.changed(shop, replace_table(shop, values=values)) == ["features"]
        assert self.changed(shop, replace_table(shop, offsets=np.array([0, 1, 3]))) == ["features"]
        spec = replace(table.spec, parameters={"size": 2})
        assert self.changed(shop, replace_table(shop, spec=spec)) == ["features"]
        clips = (replace(shop.corpus.clips[0], labels={"sentiment": 0.25}), shop.corpus.clips[1])
        assert self.changed(shop, replace(shop, corpus=replace(shop.corpus, clips=clips))) == ["corpus"]
        assert identity(TrainConfig(seed=2), shop) != identity(TrainConfig(), shop)

    def test_none_without_checkpoints(self, shop: Workshop) -> None:
        assert open_checkpoints("abc", TrainConfig(checkpoints=False), shop, CPU) is None
        kept = open_checkpoints("abc", TrainConfig(checkpoint_steps=7), shop, CPU)
        assert kept is not None
        assert kept.every_updates == 7


def replace_table(shop: Workshop, **values: Any) -> Workshop:
    return replace(shop, tables={"text": replace(shop.tables["text"], **values)})


def test_another_place_is_noted(tmp_path: Path) -> None:
    here = environment(CPU)
    assert here["threads"] == torch.get_num_threads()
    checkpoints = Checkpoints(tmp_path, {}, here)
    same, other = (Checkpoint({}, {"environment": place}) for place in (here, {**here, "threads": 99}))
    assert checkpoint_notes(checkpoints, same) == []
    assert checkpoint_notes(checkpoints, None) == checkpoint_notes(None, None) == []
    (note,) = checkpoint_notes(checkpoints, other)
    assert f"threads 99, then {here['threads']}" in note


@pytest.mark.slow
def test_real_kills(untrained: TrainConfig, tmp_path: Path) -> None:
    """`benchmarks/resume.py` with three kills: real processes, SIGKILL, bit for bit."""
    root = untrained.root
    assert root is not None
    rows = ["id,media,split,transcript,sentiment"]
    for path in sorted(root.glob("*.wav")):
        split, number, emotion = path.stem.split("-")
        rows.append(f"{path.stem},{path},{split},word {number},{0.5 if emotion == 'high' else -0.5}")
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    table.with_suffix(".yaml").write_text(
        "tasks: {sentiment: {kind: regression, low: -1, high: 1}}\n", encoding="utf-8"
    )
    settings = {
        "extractors.audio.name": "small_extractors:Loudness",
        "extractors.text.name": "small_extractors:WordLengths",
        "head.hidden_dim": 4,
        "epochs": 30,
        "batch_size": 4,
        "checkpoint_steps": 2,
        "jobs": 1,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    options = ["--fusion", "self_mm", "--corpus", table, "--modalities", "audio,text", "--device", "cpu", *words]
    script = ROOT / "benchmarks" / "resume.py"
    done = subprocess.run(
        [sys.executable, script, "--kills", "3", "--most", "3", "--folder", tmp_path / "runs", "--", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout
    assert "0 of them ended otherwise" in done.stdout
