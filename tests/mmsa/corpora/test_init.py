from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from mmsa.corpora import CORPORA, find_root, load_corpus
from mmsa.errors import UsageError


@pytest.mark.parametrize("name", CORPORA)
def test_every_registered_adapter_exists(name: str) -> None:
    module, function = CORPORA[name].split(":")
    assert callable(getattr(import_module(module), function))


def test_an_unknown_corpus_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"there is no corpus 'mled'. Did you mean 'meld'"):
        load_corpus("mled")


def test_the_demo_corpus_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'demo' renders itself: leave --root .* out"):
        load_corpus("demo", tmp_path)


def test_the_given_folder_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "meld").mkdir(parents=True)
    monkeypatch.setenv("MMSA_DATA", str(tmp_path / "data"))
    assert find_root("meld", None) == tmp_path / "data" / "meld"
    (tmp_path / "mine").mkdir()
    assert find_root("meld", tmp_path / "mine") == tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "folder"),
    [("sims-en", "sims"), ("mustard-fold3", "mustard"), ("iemocap-session2", "iemocap"), ("sims", "sims")],
)
def test_variants_of_a_corpus_share_its_folder(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMSA_DATA", raising=False)
    with pytest.raises(UsageError, match=rf"the corpus '{name}' .* a folder that holds {folder}/"):
        find_root(name, None)
    monkeypatch.setenv("MMSA_DATA", str(tmp_path))
    (tmp_path / folder).mkdir()
    assert find_root(name, None) == tmp_path / folder


def test_without_any_folder_the_message_says_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("MMSA_DATA", raising=False)
        else:
            monkeypatch.setenv("MMSA_DATA", value)
        with pytest.raises(UsageError, match=r"give its folder with --root FOLDER, or set MMSA_DATA to .* meld/"):
            load_corpus("meld")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no folder .*/gone: give the folder of the corpus 'meld'"):
        load_corpus("meld", tmp_path / "gone")
    monkeypatch.setenv("MMSA_DATA", str(tmp_path))
    with pytest.raises(UsageError, match=r"no folder .*/meld"):
        load_corpus("meld")
