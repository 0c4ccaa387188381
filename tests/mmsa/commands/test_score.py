from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmsa.scoring import load_scorer

if TYPE_CHECKING:
    from conftest import Trained

Mmsa = Callable[..., tuple[int, str, str]]


@pytest.fixture
def video(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copy(trained.root / "test-01-high.wav", tmp_path / "clip.wav"))


class TestScore:
    def test_json_is_what_the_library_says(self, run_mmsa: Mmsa, trained: Trained, video: Path) -> None:
        code, out, _ = run_mmsa("score", trained.run.id, video, "--text", "so it", "--json", "--trust-extractors")
        assert code == 0
        (row,) = [json.loads(line) for line in out.splitlines()]
        library = load_scorer(trained.run.id, trust_extractors=True).score(video, text="so it").to_dict()
        assert len(row.pop("key")) == 32
        del library["key"]
        assert row == json.loads(json.dumps(library))

    def test_the_device_changes_nothing_and_must_be_there(
        self, run_mmsa: Mmsa, trained: Trained, video: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("score", trained.run.id, video, "--json", "--trust-extractors")
        assert run_mmsa(*words, "--device", "cpu")[:2] == run_mmsa(*words)[:2]
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        code, _, err = run_mmsa(*words, "--device", "cuda")
        assert code == 2
        assert "device 'cuda' was asked for, but torch sees none" in err
        code, _, err = run_mmsa(*words, "--device", "cpu", "--ray", "local")
        assert code == 2
        assert "--device cpu is of this machine: with --ray every worker takes what it has" in err

    def test_a_bad_file_is_reported_and_the_rest_is_scored(
        self, run_mmsa: Mmsa, trained: Trained, video: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "scores.jsonl"
        words = ("score", "latest", tmp_path / "gone.mp4", video, "--output", output, "--trust-extractors")
        code, out, err = run_mmsa(*words)
        assert code == 1
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        assert [row["path"] for row in rows] == [str(tmp_path / "gone.mp4"), str(video)]
        assert ["error" in row for row in rows] == [True, False]
        assert "clip.wav" in out
        assert "missing: no transcript" in out
        assert "A corpus of tones." in out
        assert "gone.mp4" in err
        before = output.read_bytes()
        code, out, err = run_mmsa(*words)
        assert code == 1
        assert output.read_bytes() == before
        assert "2 of 2 are in" in err
        assert "clip.wav" in out
        assert "failed" in err

    def test_a_folder_along_time_in_every_format(
        self, run_mmsa: Mmsa, trained: Trained, tmp_path: Path, write_wav: Callable[[Path, list[float]], Path]
    ) -> None:
        (tmp_path / "in").mkdir()
        for name in ("talk2.wav", "talk10.wav"):
            write_wav(tmp_path / "in" / name, [0.125] * 10 + [0.5] * 10)
        code, out, _ = run_mmsa(
            *("score", "latest", tmp_path / "in", "--window", 1, "--output", tmp_path / "out"),
            *("--format", "csv,parquet,vtt", "--trust-extractors"),
        )
        assert code == 0
        assert out.index("talk2.wav") < out.index("talk10.wav")
        assert "Timelines" in out
        made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("[!.]*.*"))
        assert made == ["scores.csv", "scores.jsonl", "scores.parquet", "vtt/talk10.vtt", "vtt/talk2.vtt"]
        rows = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
        assert [len(row["windows"]) for row in rows] == [3, 3]
        assert [row["options"]["hop_seconds"] for row in rows] == [0.5, 0.5]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nonesuch", "a.mp4"], "no bundle found for 'nonesuch'"),
            (["latest", "a.mp4", "b.mp4", "--text", "hello"], "--text is the transcript of one file, but 2 were given"),
            (["latest", "a.mp4", "--output", "gone/scores.jsonl"], "there is no folder gone to write scores.jsonl to"),
            (["latest"], "nothing to score"),
            (["latest", "a.mp4", "--hop", "5"], "give window_seconds, too"),
            (["latest", "a.mp4", "--format", "csv"], "--format needs --output"),
            (["latest", "https://example.org/a.mp4"], "needs --allow-remote"),
            (
                ["latest", "a.mp4", "--ray", "ray://head:10001", "--trust-extractors"],
                "Run mmsa on a node of the cluster",
            ),
        ],
        ids=str,
    )
    def test_what_cannot_be_done_ends_with_a_message(
        self, run_mmsa: Mmsa, trained: Trained, words: list[str], message: str
    ) -> None:
        code, out, err = run_mmsa("score", *words)
        assert (code, out) == (2, "")
        assert message in err

    def test_a_table_and_windows_exclude_each_other(self, run_mmsa: Mmsa, trained: Trained, tmp_path: Path) -> None:
        table = tmp_path / "in.csv"
        table.write_text("path,start\na.mp4,1\n", encoding="utf-8")
        code, _, err = run_mmsa("score", "latest", table, "--window", 1)
        assert code == 2
        assert "leave --window and --segments out" in err

    def test_a_file_name_is_no_markup(self, run_mmsa: Mmsa, trained: Trained, video: Path) -> None:
        odd = video.rename(video.with_name("[red]clip.wav"))
        code, out, _ = run_mmsa("score", trained.run.id, odd, "--trust-extractors")
        assert code == 0
        assert "[red]clip.wav" in out
