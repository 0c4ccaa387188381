from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmsa.corpora import CORPORA, load_corpus

Mmsa = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_corpus(run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch) -> Mmsa:
    """`(*words)` → exit code, standard output and standard error of `mmsa corpus` with these words."""
    monkeypatch.delenv("MMSA_DATA", raising=False)
    return lambda *words: run_mmsa("corpus", *words)


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    audio = np.zeros((2, 4, 3))
    audio[0, 2:], audio[1, 1:] = 1, 2
    data = {
        split: {"audio": audio, "labels": np.array([1.5, -2.0]), "id": [f"{split}1", f"{split}2"]}
        for split in ("train", "valid", "test")
    }
    path = tmp_path / "mosi.pkl"
    path.write_bytes(pickle.dumps(data))
    return path


def test_the_list_has_every_corpus_and_where_it_is(
    run_corpus: Mmsa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meld").mkdir()
    monkeypatch.setenv("MMSA_DATA", str(tmp_path))
    code, out, _ = run_corpus("list", "--json")
    assert code == 0
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert list(rows) == list(CORPORA)
    assert rows["meld"] == {"name": "meld", "rendered": False, "folder": str(tmp_path / "meld")}
    assert rows["mosi"]["folder"] is None
    assert rows["demo"]["rendered"]
    _, out, _ = run_corpus("list")
    assert str(tmp_path / "meld") in out
    assert "renders itself" in out
    assert "give --root FOLDER" in out


class TestImport:
    def test_it_makes_a_corpus_and_says_how_the_file_was_read(self, run_corpus: Mmsa, features: Path) -> None:
        code, out, _ = run_corpus("import", features, "--name", "mymosi")
        assert code == 0
        assert "mymosi: train 2, valid 2, test 2" in out
        assert "left" in out
        assert "zeros" in out
        assert "mmsa train --corpus mymosi" in out
        assert load_corpus("mymosi").clips[0].labels == {"sentiment": 1.5}
        code, out, _ = run_corpus("check", "mymosi", "--json")
        assert code == 0, out

    def test_options_reach_the_import(self, run_corpus: Mmsa, features: Path, tmp_path: Path) -> None:
        words = ("--labels", "-4,4", "--padding", "right", "--output", tmp_path / "out" / "made", "--json")
        code, out, _ = run_corpus("import", features, "--name", "mine", *words)
        assert code == 0
        row = json.loads(out)
        assert row["folder"] == str(tmp_path / "out" / "made")
        assert (row["tasks"][0]["low"], row["tasks"][0]["high"]) == (-4, 4)
        assert (row["modalities"]["audio"]["padding"], row["modalities"]["audio"]["longest_steps"]) == ("right", 4)
        assert load_corpus(str(tmp_path / "out" / "made")).name == "mine"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--labels", "0,x"], "--labels takes mosi, sims, simsv2 or two numbers such as 0,5, not '0,x'"),
            (["--labels", "imdb"], "labels must be mosi, sims, simsv2 or a range, not 'imdb'"),
            (["--padding", "middle"], "--padding takes left or right, not 'middle'"),
            (["--output", "."], "is there already"),
        ],
        ids=str,
    )
    def test_what_cannot_be_done_ends_with_a_message(
        self, run_corpus: Mmsa, features: Path, words: list[str], message: str
    ) -> None:
        code, out, err = run_corpus("import", features, "--name", "mine", *words)
        assert (code, out) == (2, "")
        assert message in err

    def test_folders_of_computational_sequences_are_read_as_well(self, run_corpus: Mmsa, tmp_path: Path) -> None:
        source = tmp_path / "sdk"
        source.mkdir()
        for name in ("Opinion Labels", "COVAREP", "FACET_4.1", "FACET_4.2"):
            with h5py.File(source / f"{name}.csd", "w") as file:
                for i, video in enumerate(("a", "b", "c")):
                    file[f"{name}/data/{video}/features"] = np.array([[i + 0.5]])
                    file[f"{name}/data/{video}/intervals"] = np.array([[1.0, 2.0]])
        (source / "folds.json").write_text('{"train": ["a"], "valid": ["b"], "test": ["c"]}', encoding="utf-8")
        words = ("import", source, "--name", "sdk", "--output", tmp_path / "made")
        code, _, err = run_corpus(*words)
        assert code == 2
        assert "vision could be FACET_4.1" in err
        code, _, err = run_corpus(*words, "--use", "vision")
        assert code == 2
        assert "--use takes MODALITY=SEQUENCE" in err
        code, out, _ = run_corpus(*words, "--use", "vision=FACET_4.2", "--use", "old=FACET_4.1")
        assert code == 0
        assert "sdk: train 1, valid 1, test 1" in out
        assert "intervals" in out
        assert sorted(load_corpus(str(tmp_path / "made")).features) == ["audio", "old", "vision"]

    def test_a_malicious_file_is_refused(self, run_corpus: Mmsa, features: Path, tmp_path: Path) -> None:
        class Payload:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {tmp_path / 'pwned'}",)

        features.write_bytes(pickle.dumps({"train": Payload()}))
        code, _, err = run_corpus("import", features, "--name", "mine")
        assert code == 2
        assert "names posix.system" in err
        assert not (tmp_path / "pwned").exists()


class TestCheck:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        rows = [f"{i},{('train', 'valid', 'test')[i % 3]},words of {i},{i % 2}" for i in range(12)]
        path = tmp_path / "mine.csv"
        path.write_text("\n".join(["id,split,transcript,mood", *rows]) + "\n", encoding="utf-8")
        described = {"tasks": {"mood": {"kind": "regression", "low": 0, "high": 1}}}
        path.with_suffix(".yaml").write_text(json.dumps(described), encoding="utf-8")
        return path

    def test_a_sound_corpus(self, run_corpus: Mmsa, table: Path) -> None:
        code, out, _ = run_corpus("check", table)
        assert code == 0
        assert "train 4, valid 4, test 4" in out
        assert "12 of 12 clips" in out
        assert "low 0, mean 0.50, high 1" in out
        assert "No problems found" in out

    def test_problems_make_the_exit_code_1(self, run_corpus: Mmsa, table: Path) -> None:
        with table.open("a", encoding="utf-8") as file:
            file.writelines(f"x{i},train,[red]more {i},{i}\n" for i in range(2, 14))
        code, out, _ = run_corpus("check", table)
        assert code == 1
        assert "problem, mood (12)" in out
        assert "x2: row 14, column mood: mood must lie in [0.0, 1.0], not '2'" in out
        assert "and 2 more: --json lists them all" in out
        code, out, _ = run_corpus("check", table, "--json")
        assert code == 1
        summary, *findings = map(json.loads, out.splitlines())
        assert (summary["name"], summary["problems"], summary["clips"]["train"]) == ("mine", 12, 4)
        assert [f["clip"] for f in findings if f["severity"] == "problem"] == [f"x{i}" for i in range(2, 14)]

    def test_what_cannot_be_checked_is_a_usage_error(self, run_corpus: Mmsa, tmp_path: Path) -> None:
        code, out, err = run_corpus("check", tmp_path / "gone.csv")
        assert (code, out) == (2, "")
        assert "gone.csv is no corpus" in err
