from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import extractors
from mmsa.config import make_config
from mmsa.corpora import CORPORA, LANGUAGES
from mmsa.corpora.clip import Clip, Corpus
from mmsa.features.choose import choose_extractors
from mmsa.languages import mismatches
from mmsa.tasks import Regression


def corpus(name: str, language: str | None) -> Corpus:
    return Corpus(
        name, (Clip("a", "train", {}, transcript="很好"),), (Regression("sentiment", -1, 1),), language=language
    )


def test_an_extractor_of_another_language_is_named() -> None:
    built = {"text": extractors.build("text.lexical", hash_dim=0), "audio": extractors.build("speech.librosa")}
    (told,) = mismatches(built, "zh")
    assert told.startswith("text.lexical is made for en, and the language is zh")
    assert mismatches(built, "en") == mismatches(built, None) == []
    assert mismatches({"text": extractors.build("text.characters")}, "zh") == []


def test_a_corpus_warns_once() -> None:
    with pytest.warns(UserWarning, match="corpus 'warned': text.lexical is made for en, and the language is zh"):
        choose_extractors(corpus("warned", "zh"), make_config())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_extractors(corpus("warned", "zh"), make_config())
        choose_extractors(corpus("english", "en"), make_config())
        choose_extractors(corpus("unknown", None), make_config())
        choose_extractors(corpus("quiet", "zh"), make_config(None, {"extractors.text.name": "text.characters"}))


def test_corpora_say_what_is_spoken_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(LANGUAGES) == set(CORPORA)
    assert {name for name, language in LANGUAGES.items() if language != "en"} == {"sims", "simsv2", "multi_zol"}
    from mmsa.corpora import load_corpus

    (tmp_path / "label.csv").write_text(
        "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\nv,1,很好,0.2,0.2,0.2,0.2,Positive,train\n",
        encoding="utf-8",
    )
    assert load_corpus("sims", tmp_path).language == "zh"
    (tmp_path / "own.csv").write_text("id,split,mood\na,train,0.5\n", encoding="utf-8")
    (tmp_path / "own.yaml").write_text("tasks: {mood: {kind: regression, low: -1, high: 1}}\nlanguage: de\n")
    assert load_corpus(str(tmp_path / "own.csv")).language == "de"
