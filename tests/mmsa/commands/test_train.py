from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import mmsa.cli
import mmsa.commands.train
import mmsa.doctor
from mmsa.config import TrainConfig
from mmsa.errors import UsageError
from mmsa.runs import Run
from mmsa.training import Epoch

Mmsa = Callable[..., tuple[int, str, str]]


class TestTrain:
    @staticmethod
    def words(config: TrainConfig) -> list[str]:
        settings = {
            "extractors.audio.name": "small_extractors:Loudness",
            "extractors.text.name": "small_extractors:WordLengths",
            "head.hidden_dim": 4,
            "epochs": 2,
            "jobs": 1,
        }
        pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        return ["train", "--corpus", "small", "--root", str(config.root), "--modalities", "audio, text", *pairs]

    def test_json_prints_one_line_per_run_and_nothing_else(self, run_mmsa: Mmsa, untrained: TrainConfig) -> None:
        code, out, err = run_mmsa(*self.words(untrained), "--fusion", "late", "--seeds", "3,4", "--json")
        assert code == 0
        rows = [json.loads(line) for line in out.splitlines()]
        assert [(row["seed"], row["head"], row["epochs"]) for row in rows] == [(3, "late", 2), (4, "late", 2)]
        assert set(rows[0]["metrics"]) == {"audio", "text", "audio+text"}
        assert "epoch   2" in err

    def test_the_table_shows_every_subset_and_where_to_go_on(self, run_mmsa: Mmsa, untrained: TrainConfig) -> None:
        code, out, _ = run_mmsa(*self.words(untrained), "--set", "tasks=[sentiment]")
        assert code == 0
        assert "audio+text" in out
        assert "mae" in out
        assert "Note: A corpus of tones." in out
        assert "mmsa score latest VIDEO" in out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--fusion", "lat"], "no fusion head is called 'lat'. Did you mean 'late'?"),
            (["--seeds", "1,x"], "--seeds takes whole numbers with commas between, such as 1,2,3, not '1,x'"),
            (["--seeds", "1,1"], "--seeds takes each number once"),
            (["--seeds", "-1"], "none below 0"),
            (["--set", "epoch=3"], "epoch: unknown key; did you mean 'epochs'?"),
            (["--set", "epochs"], "--set takes key=value"),
            (["--corpus", "mled"], "there is no corpus 'mled'. Did you mean 'meld'?"),
            (["--config", "gone.yaml"], "cannot read the configuration gone.yaml"),
            (["--modalities", ","], "modalities must name at least one"),
            (["--resume", "abc"], "there is no run 'abc'"),
            (["--resume", "abc", "--seeds", "1,2"], "--resume goes on with a run in its own settings and seed"),
            (["--resume", "latest", "--set", "epochs=9"], "give no other option but --json"),
        ],
        ids=str,
    )
    def test_what_cannot_be_done_ends_with_a_message(
        self, run_mmsa: Mmsa, workspace: Path, words: list[str], message: str
    ) -> None:
        code, out, err = run_mmsa("train", *words)
        assert code == 2
        assert out == ""
        assert err.startswith("Error: ")
        assert message in err


class TestResume:
    @staticmethod
    def stopped(run_mmsa: Mmsa, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> str:
        """The id of a run that broke off after its first epoch, as it was told."""
        line = mmsa.commands.train._EpochLine.__call__

        def stop(self: mmsa.commands.train._EpochLine, epoch: Epoch) -> None:
            line(self, epoch)
            raise UsageError("stopped")

        with monkeypatch.context() as patch:
            patch.setattr(mmsa.commands.train._EpochLine, "__call__", stop)
            code, _, err = run_mmsa(*TestTrain.words(config))
        assert code == 2
        (told,) = (row for row in err.splitlines() if row.startswith("Run "))
        run_id = told.split()[1].rstrip(".")
        assert told == f"Run {run_id}. If it is stopped: mmsa train --resume {run_id}"
        return run_id

    def test_it_goes_on_and_then_is_finished(
        self, run_mmsa: Mmsa, untrained: TrainConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = self.stopped(run_mmsa, untrained, monkeypatch)
        code, out, err = run_mmsa("train", "--resume", "latest", "--json")
        assert code == 0
        (row,) = map(json.loads, out.splitlines())
        assert (row["id"], row["epochs"]) == (run_id, 2)
        assert f"Run {run_id} goes on after epoch 1." in err
        assert "epoch   2" in err
        assert "epoch   1" not in err
        code, out, err = run_mmsa("train", "--resume", run_id)
        assert (code, out) == (0, "")
        assert f"run {run_id} is finished (2 epochs" in err

    def test_the_table_is_that_of_any_run(
        self, run_mmsa: Mmsa, untrained: TrainConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = self.stopped(run_mmsa, untrained, monkeypatch)
        code, out, _ = run_mmsa("train", "--resume", run_id)
        assert code == 0
        assert "audio+text" in out
        assert "Note: A corpus of tones." in out


def test_warnings_stand_apart_from_notes(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(
        "i", "e", "late", ("text",), 1, {"text": {"s.mae": 1.0}}, 2, 1, 0.5, ("a note", "a doubt"), {}, ("a doubt",)
    )
    mmsa.commands.train._print_result(run, as_json=False)
    mmsa.commands.train._print_end(run)
    out = capsys.readouterr().out
    assert out.count("a doubt") == 1
    assert "Warning: a doubt" in out
    assert "Note: a note" in out


def test_the_epoch_line_has_one_metric_per_task(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"sentiment.mae": 0.5, "sentiment.corr": 0.25, "emotion.uar": 0.1, "emotion.accuracy": 0.75}
    mmsa.commands.train._EpochLine()(Epoch(7, 1.5, 1.25, metrics, {}))
    line = capsys.readouterr().err
    assert line.split() == [
        "epoch",
        "7",
        "train",
        "1.5000",
        "valid",
        "1.2500",
        "sentiment.mae",
        "0.500",
        "emotion.accuracy",
        "0.750",
    ]
