from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml

from mmsa.errors import UsageError
from mmsa.scoring.ensemble import DEFAULT, EMOTIONS, FILES, Ensemble, read_ensemble

SMALL = "text:\n  model: some/reader\n  labels: {pos: joy, neg: anger}\n"

GO_EMOTIONS = 28


def write(folder: Path, text: str) -> Path:
    path = folder / "voters.yaml"
    path.write_text(text, encoding="utf-8")
    return path


class TestDefault:
    def test_names_a_classifier_and_its_terms_for_each_modality(self) -> None:
        ensemble = read_ensemble()
        assert list(ensemble.members) == ["text", "audio", "vision"] == list(FILES)
        for member in ensemble.members.values():
            assert member.model.count("/") == 1
            assert member.revision is not None
            assert len(member.revision) == 40
            assert member.licence != "not stated"

    def test_maps_the_published_label_sets(self) -> None:
        """GoEmotions has 28 labels in Ekman's groups; the speech model knows IEMOCAP's four; FER2013 has seven."""
        members = read_ensemble().members
        assert len(members["text"].labels) == GO_EMOTIONS
        groups = {name: [k for k, one in members["text"].labels.items() if name in one.emotion] for name in EMOTIONS}
        assert {name: len(found) for name, found in groups.items()} == {
            "anger": 3, "disgust": 1, "fear": 2, "joy": 12, "neutral": 1, "sadness": 5, "surprise": 4
        }  # fmt: skip
        assert set(members["audio"].labels) == {"neu", "hap", "ang", "sad"}
        assert {next(iter(one.emotion)) for one in members["vision"].labels.values()} == set(EMOTIONS)

    def test_is_part_of_the_package(self) -> None:
        assert yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))["valence"]["joy"] == 1.0


class TestReading:
    def test_a_file_stands_alone(self, tmp_path: Path) -> None:
        ensemble = read_ensemble(write(tmp_path, SMALL))
        assert list(ensemble.members) == ["text"]
        assert ensemble.members["text"].labels["pos"].emotion == {"joy": 1.0}
        assert ensemble.valence == read_ensemble().valence

    def test_options_win(self) -> None:
        ensemble = read_ensemble(None, {"text.weight": 2, "vision.parameters.frames_per_second": 5})
        assert ensemble.members["text"].weight == 2.0
        assert ensemble.members["vision"].parameters == {"frames_per_second": 5}
        assert ensemble.members["text"].revision is not None

    def test_another_model_drops_what_was_said_of_the_old_one(self) -> None:
        changed = read_ensemble(None, {"audio.model": "mine/ears"}).members["audio"]
        assert (changed.model, changed.revision, changed.licence) == ("mine/ears", None, "not stated")
        kept = read_ensemble(None, {"audio.model": "mine/ears", "audio.revision": "v2"}).members["audio"]
        assert kept.revision == "v2"

    def test_modalities_are_chosen(self) -> None:
        assert list(read_ensemble(modalities=["vision", "text"]).members) == ["text", "vision"]
        with pytest.raises(UsageError, match=r"no classifier in pretrained.yaml for the modality 'visoin'.*'vision'"):
            read_ensemble(modalities=["visoin"])
        with pytest.raises(UsageError, match="modalities must name at least one of text, audio, vision"):
            read_ensemble(modalities=[])

    def test_folders_are_relative_to_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "reader").mkdir()
        ensemble = read_ensemble(write(tmp_path, SMALL.replace("some/reader", "reader")))
        assert ensemble.members["text"].model == str((tmp_path / "reader").resolve())
        assert ensemble.place("text") is None

    @pytest.mark.parametrize(
        ("text", "messages"),
        [
            (SMALL.replace("labels:", "lables:"), ["text.lables: unknown key; did you mean 'labels'?", "text.labels"]),
            (SMALL.replace("text:", "texts:"), ["texts: unknown key; did you mean 'text'?"]),
            (
                SMALL.replace("pos: joy", "pos: joi"),
                ["text.labels.pos.emotion", "no emotion 'joi'. Did you mean 'joy'?"],
            ),
            (SMALL + "  weight: -1\n", ["text.weight", "greater than 0, not -1"]),
            (
                SMALL.replace("joy", "null").replace("anger", "null"),
                ["at least one of the labels must mean an emotion"],
            ),
            (SMALL.replace("neg", "Pos"), ["two labels differ in case only"]),
            (SMALL.replace("joy", "{emotion: {joy: 0.5}}"), ["shares of a label must sum to 1, not 0.5"]),
            (SMALL.replace("joy", "{emotion: joy, valance: 1}"), ["valance: unknown key; did you mean 'valence'?"]),
            (
                SMALL.replace("joy", "{emotion: joy, valence: 2}"),
                ["text.labels.pos.valence", "less than or equal to 1"],
            ),
            ("valence: {joy: 1}\n" + SMALL, ["valence: needs each of"]),
            ("models: here\n", ["at least one of text, audio, vision must have a classifier"]),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, text: str, messages: list[str]) -> None:
        with pytest.raises(UsageError, match=r"the classifiers of .*voters\.yaml are not valid") as caught:
            read_ensemble(write(tmp_path, text))
        for message in messages:
            assert message in str(caught.value)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"cannot read the configuration .*gone\.yaml"):
            read_ensemble(tmp_path / "gone.yaml")

    def test_the_example_of_the_docs_is_one(self, tmp_path: Path) -> None:
        page = DEFAULT.parents[2] / "docs" / "pretrained.md"
        block = page.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
        ensemble = read_ensemble(write(tmp_path, block))
        assert ensemble.members["text"].labels["verachtung"].emotion == {"anger": 0.5, "disgust": 0.5}
        assert ensemble.members["text"].labels["anderes"].emotion == {}
        assert ensemble.members["vision"].parameters == {"frames_per_second": 5, "margin": 0.3}


class TestLabels:
    def test_are_matched_in_the_models_order_and_without_case(self, tmp_path: Path) -> None:
        member = read_ensemble(write(tmp_path, SMALL)).members["text"]
        assert [next(iter(one.emotion)) for one in member.match(["NEG", "Pos"])] == ["anger", "joy"]

    def test_missing_and_extra_ones_are_both_named(self, tmp_path: Path) -> None:
        member = read_ensemble(write(tmp_path, SMALL)).members["text"]
        with pytest.raises(
            UsageError,
            match=r"some/reader has the labels pos, neutral: the map lacks 'neutral'; the model has no 'neg'",
        ):
            member.match(["pos", "neutral"])


class TestPlaces:
    def test_the_option_then_the_variable_then_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = Path("SamLowe/roberta-base-go_emotions")
        assert read_ensemble().place("text") == tmp_path / "cache" / "models" / name
        monkeypatch.setenv("MMSA_MODELS", str(tmp_path / "named"))
        assert read_ensemble().place("text") == tmp_path / "named" / name
        assert read_ensemble(models=tmp_path / "given").place("text") == tmp_path / "given" / name

    def test_an_ensemble_travels_to_other_processes(self) -> None:
        one, other = read_ensemble(None, {"text.weight": 2}), read_ensemble()
        again: Ensemble = pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
        assert again == one
        assert hash(again) == hash(one)
        assert other != one
