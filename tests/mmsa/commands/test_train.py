from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mmsa.cli
import mmsa.commands.train
import mmsa.doctor
from mmsa.config import TrainConfig
from mmsa.training import Epoch

if TYPE_CHECKING:
    pass

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
