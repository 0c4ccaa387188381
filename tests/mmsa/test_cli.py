from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mmsa.cli
import mmsa.doctor
from fusion import describe, head_classes
from mmsa.config import TrainConfig
from mmsa.doctor import Finding
from mmsa.scoring import load_scorer
from mmsa.training import Epoch

if TYPE_CHECKING:
    from conftest import Trained

Mmsa = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_mmsa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mmsa:
    """`(*words)` → exit code, standard output and standard error of `mmsa` with these words."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmsa", *map(str, words)])
        with pytest.raises(SystemExit, match=r"^\d*$") as ended:
            mmsa.cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def video(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copy(trained.root / "test-01-high.wav", tmp_path / "clip.wav"))


def test_help_lists_the_commands(run_mmsa: Mmsa) -> None:
    code, out, _ = run_mmsa("--help")
    assert code == 0
    for command in ("train", "score", "heads", "ui", "doctor"):
        assert f" {command} " in out


def test_heads_are_those_of_the_library(run_mmsa: Mmsa) -> None:
    code, out, _ = run_mmsa("heads", "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [asdict(describe(name)) for name in head_classes()]


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


class TestScore:
    def test_json_is_what_the_library_says(self, run_mmsa: Mmsa, trained: Trained, video: Path) -> None:
        code, out, _ = run_mmsa("score", trained.run.id, video, "--text", "so it", "--json", "--trust-extractors")
        assert code == 0
        (row,) = [json.loads(line) for line in out.splitlines()]
        assert row == json.loads(
            json.dumps(load_scorer(trained.run.id, trust_extractors=True).score(video, text="so it").to_dict())
        )

    def test_a_failed_file_makes_the_exit_code_1_and_the_rest_is_scored(
        self, run_mmsa: Mmsa, trained: Trained, video: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "scores.jsonl"
        code, out, err = run_mmsa(
            "score", "latest", tmp_path / "gone.mp4", video, "--output", output, "--trust-extractors"
        )
        assert code == 1
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert [row["path"] for row in rows] == [str(tmp_path / "gone.mp4"), str(video)]
        assert ["error" in row for row in rows] == [True, False]
        assert "clip.wav" in out
        assert "missing: no transcript" in out
        assert "A corpus of tones." in out
        assert "gone.mp4" in err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nonesuch", "a.mp4"], "no bundle found for 'nonesuch'"),
            (["latest", "a.mp4", "b.mp4", "--text", "hello"], "--text is the transcript of one file, but 2 were given"),
            (["latest", "a.mp4", "--output", "gone/scores.jsonl"], "there is no folder gone to write scores.jsonl to"),
        ],
        ids=str,
    )
    def test_what_cannot_be_done_ends_with_a_message(
        self, run_mmsa: Mmsa, trained: Trained, words: list[str], message: str
    ) -> None:
        code, out, err = run_mmsa("score", *words)
        assert (code, out) == (2, "")
        assert message in err

    def test_a_file_name_is_no_markup(self, run_mmsa: Mmsa, trained: Trained, video: Path) -> None:
        odd = video.rename(video.with_name("[red]clip.wav"))
        code, out, _ = run_mmsa("score", trained.run.id, odd, "--trust-extractors")
        assert code == 0
        assert "[red]clip.wav" in out


class TestUi:
    def test_without_a_store_there_is_nothing_to_see(
        self, run_mmsa: Mmsa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        code, _, err = run_mmsa("ui")
        assert code == 2
        assert "no run yet in" in err
        assert not (tmp_path / "mlruns").exists()

    def test_it_opens_the_store_that_training_writes_to(
        self, run_mmsa: Mmsa, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[Any] = []

        def replaced(program: str, words: list[str]) -> None:
            started.append((program, words))
            raise SystemExit(0)

        monkeypatch.setattr(os, "execv", replaced)
        code, out, _ = run_mmsa("ui", "--port", "5050")
        assert code == 0
        ((program, words),) = started
        assert program == sys.executable
        assert words[words.index("--backend-store-uri") + 1] == f"sqlite:///{workspace / 'mlruns' / 'mlflow.db'}"
        assert words[words.index("--port") + 1] == "5050"
        assert "http://127.0.0.1:5050" in out

    def test_a_server_is_only_named(self, run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
        code, out, _ = run_mmsa("ui")
        assert code == 0
        assert "open http://tracking.example:5000 in a browser" in out


class TestDoctor:
    @pytest.mark.parametrize(("status", "code"), [("ok", 0), ("limited", 0), ("broken", 1)])
    def test_only_what_is_broken_fails(
        self, run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch, status: Any, code: int
    ) -> None:
        finding = Finding("media", status, "found [this]", "do that")
        monkeypatch.setattr(mmsa.doctor, "CHECKS", {"media": lambda: finding})
        found, out, _ = run_mmsa("doctor")
        assert found == code
        assert status in out
        assert "found [this]" in out
        assert ("→ do that" in out) == (status != "ok")
        found, out, _ = run_mmsa("doctor", "--json")
        assert found == code
        assert json.loads(out) == {"name": "media", "status": status, "found": "found [this]", "advice": "do that"}


def test_an_interruption_ends_with_130(run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmsa.cli, "app", interrupted)
    code, _, err = run_mmsa()
    assert code == 130
    assert "Interrupted" in err


def test_the_epoch_line_has_one_metric_per_task(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"sentiment.mae": 0.5, "sentiment.corr": 0.25, "emotion.uar": 0.1, "emotion.accuracy": 0.75}
    mmsa.cli._EpochLine()(Epoch(7, 1.5, 1.25, metrics, {}))
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
