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
