from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Trained

Mmsa = Callable[..., tuple[int, str, str]]
OWN = ["--trust-extractors", "--jobs", "1", "--device", "cpu"]


def test_json_is_one_line_of_the_schema(run_mmsa: Mmsa, copied: Trained) -> None:
    code, out, _ = run_mmsa("evaluate", "latest", *OWN, "--noise", "text=0.2", "--noise", "audio=5,10", "--json")
    assert code == 0
    (line,) = out.splitlines()
    found = json.loads(line)
    assert found["schema"] == "mmsa.evaluate/1"
    assert found["metrics"]["audio+text"] == dict(copied.run.test_metrics)
    assert [curve["noise"] for curve in found["curves"]] == ["text", "audio"]
    assert [point["level"] for point in found["curves"][1]["points"]] == [None, 10.0, 5.0]


def test_tables_say_what_was_found(run_mmsa: Mmsa, copied: Trained, tmp_path: Path) -> None:
    code, out, _ = run_mmsa(
        "evaluate",
        copied.run.id,
        *OWN,
        "--drop-modalities",
        "--repeats",
        "2",
        "--noise",
        "audio=0",
        "--output",
        tmp_path,
    )
    assert code == 0
    for words in (
        "small, test split, 7 clips",
        "modalities missing at random, share",
        "white noise: signal-to-noise ratio, dB",
        "without audio",
        "Never had audio, and stay as they are: 1 of the clips.",
        "Note: A corpus of tones.",
        f"of {copied.run.id}; files in {tmp_path}",
    ):
        assert words in out, words
    mae = f"{copied.run.test_metrics['sentiment.mae']:.3f}"
    assert [line for line in out.splitlines() if "audio+text" in line and mae in line]
    assert (tmp_path / "curve_missing.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--noise", "audoi=3"], "there is no noise 'audoi'. Did you mean 'audio'?"),
        (["--noise", "text"], "--noise takes KIND=LEVEL,LEVEL"),
        (["--split", "tset"], "there is no split 'tset'. Did you mean 'test'?"),
        (["--modalities", "txt"], "there is no modality of this model 'txt'"),
        (["--corpus", "mled"], "there is no corpus 'mled'. Did you mean 'meld'?"),
        ([], "pass --trust-extractors"),
    ],
    ids=str,
)
def test_what_cannot_be_done_ends_with_a_message(
    run_mmsa: Mmsa, copied: Trained, words: list[str], message: str
) -> None:
    code, out, err = run_mmsa("evaluate", "latest", *words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err


def test_without_a_run_it_says_how_to_make_one(run_mmsa: Mmsa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run_mmsa("evaluate")
    assert code == 2
    assert "run `mmsa train` first" in err
