from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from extractors import ExtractorSpec
from fusion import ModalitySequence, head_classes
from mmsa.bundle import DESCRIPTION, WEIGHTS, Bundle, library_versions, load_bundle
from mmsa.calibration import Calibration
from mmsa.errors import UsageError
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.tasks import Classification, Regression
from mmsa.words import KeptModel, WordOptions

TASKS = (Regression("sentiment", -3.0, 3.0, "mosi"), Classification("emotion", ("calm", "glad")))
DIMS = {"audio": 2, "text": 3}
BASELINE = (0.1, 0.25, 0.75)
SPECS = {
    "text": ExtractorSpec("text.lexical", "vaderSentiment", "3.3.2+1", {"buckets": 8}),
    "audio": ExtractorSpec("speech.librosa", "librosa", "0.11.0+1", {}),
}


def inputs() -> dict[str, ModalitySequence]:
    generator = torch.Generator().manual_seed(5)
    made = {
        key: ModalitySequence.pad([torch.randn(n, dim, generator=generator) * 3 for n in (4, 1, 3)])
        for key, dim in DIMS.items()
    }
    made["audio"].mask[1] = False
    return made


def trained(head: str = "late", **options: Any) -> MultimodalModel:
    """A model whose every weight and buffer has moved away from where building puts it."""
    torch.manual_seed(0)
    model = MultimodalModel(ModelConfig(head, DIMS, 3, options, grid_steps=4))
    for normaliser in model.normalisers.values():
        normaliser.mean.uniform_(-1, 1)  # type: ignore[operator]
        normaliser.scale.uniform_(0.5, 2)  # type: ignore[operator]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def bundle_of(model: MultimodalModel, specs: dict[str, ExtractorSpec] | None = None) -> Bundle:
    return Bundle(model, TASKS, specs or SPECS, "made", "Read this.", {"python": "3.11.2"}, BASELINE)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    bundle_of(trained()).save(folder)
    return folder


def change(folder: Path, **values: Any) -> None:
    path = folder / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


@pytest.mark.parametrize("head", head_classes())
def test_every_head_predicts_the_same_bits_after_a_round_trip(head: str, tmp_path: Path) -> None:
    model = trained(head)
    bundle_of(model).save(tmp_path)
    loaded = load_bundle(tmp_path).model
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(inputs()).prediction, model(inputs()).prediction)


def test_everything_around_the_model_comes_back(saved: Path) -> None:
    loaded = load_bundle(saved)
    assert loaded.tasks == TASKS
    assert loaded.extractors == SPECS
    assert (loaded.corpus, loaded.note, loaded.versions) == ("made", "Read this.", {"python": "3.11.2"})
    assert loaded.baseline == BASELINE
    assert loaded.model.config == trained().config


def test_calibration_and_lengths_come_back_and_older_bundles_have_none(tmp_path: Path) -> None:
    fitted = Calibration({"emotion": 1.5}, {"sentiment": 0.25}, 0.9, {"emotion": 8, "sentiment": 9})
    replace(bundle_of(trained()), calibration=fitted, clip_seconds=(0.5, 1.0, 9.0)).save(tmp_path)
    loaded = load_bundle(tmp_path)
    assert (loaded.calibration, loaded.clip_seconds) == (fitted, (0.5, 1.0, 9.0))
    description = json.loads((tmp_path / DESCRIPTION).read_text(encoding="utf-8"))
    del description["calibration"], description["clip_seconds"]
    (tmp_path / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    older = load_bundle(tmp_path)
    assert (older.calibration, older.clip_seconds) == (None, None)
    change(tmp_path, calibration={**fitted.to_dict(), "temperatures": {"emotion": 0}})
    with pytest.raises(UsageError, match="is damaged"):
        load_bundle(tmp_path)


def test_speech_models_come_back_with_a_copy_of_their_folder(tmp_path: Path) -> None:
    """One of the hub stays named by its commit; older bundles, of words that came with a corpus, have none."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"weights")
    parameters = {"weights_sha256": "ab", "language": "en", "silence_db": -50.0}
    hub = ExtractorSpec("alignment.ctc", "torchaudio", "2.11.0+1", {"model": "some/ctc", "revision": "c0ffee"})
    own = ExtractorSpec(
        "transcription.whisper", "transformers", "5.0.0+1", parameters, {"model": str(tmp_path / "mine")}
    )
    words = WordOptions(KeptModel("mine", own.to_json()), "en", KeptModel("ctc", hub.to_json()))
    replace(bundle_of(trained()), words=words).save(tmp_path / "bundle")
    shutil.rmtree(tmp_path / "mine")
    loaded = load_bundle(Path(shutil.move(tmp_path / "bundle", tmp_path / "moved"))).words
    assert isinstance(loaded.transcribe, KeptModel)
    arguments = loaded.transcribe.arguments()
    copy = Path(arguments.pop("model"))
    assert copy.is_relative_to(tmp_path / "moved")
    assert (copy / "model.safetensors").read_bytes() == b"weights"
    assert (loaded.transcribe.name, arguments) == ("mine", parameters)
    assert (loaded.language, loaded.align) == ("en", words.align)
    change(tmp_path / "moved", words={})
    assert load_bundle(tmp_path / "moved").words == WordOptions()
    change(tmp_path / "moved", words={"transcribe": {"name": "mine"}})
    with pytest.raises(UsageError, match="is damaged"):
        load_bundle(tmp_path / "moved")


def test_options_of_scoring_win_over_those_of_a_model() -> None:
    own = WordOptions(KeptModel("mine", "{}"), "en", KeptModel("ctc", "{}"))
    assert WordOptions().over(own) == own
    assert WordOptions("other", "de").over(own) == WordOptions("other", "de", own.align)
    without = WordOptions("none", align="none").over(own)
    assert (without.models, without.listens) == ({}, False)


def test_head_options_come_back(tmp_path: Path) -> None:
    bundle_of(trained("late", hidden_dim=5, combination="mean")).save(tmp_path)
    assert load_bundle(tmp_path).model.config.head_options == {"hidden_dim": 5, "combination": "mean"}


def test_a_bundle_can_be_moved(saved: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        before = load_bundle(saved).model(inputs()).prediction
        moved = shutil.move(saved, tmp_path / "elsewhere")
        assert torch.equal(load_bundle(Path(moved)).model(inputs()).prediction, before)


def test_a_bundle_holds_no_pickle(saved: Path) -> None:
    assert sorted(path.name for path in saved.rglob("*")) == [DESCRIPTION, WEIGHTS]


class TestDamage:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is damaged"),
            (b"not weights at all", "is damaged"),
            (None, r"is damaged \(.*weights.safetensors"),
        ],
    )
    def test_unusable_weights(self, saved: Path, content: bytes | None, message: str) -> None:
        if content is None:
            (saved / WEIGHTS).unlink()
        else:
            (saved / WEIGHTS).write_bytes(content)
        with pytest.raises(UsageError, match=message):
            load_bundle(saved)

    @pytest.mark.parametrize("keep", [0.3, 0.99])
    def test_cut_off_weights(self, saved: Path, keep: float) -> None:
        content = (saved / WEIGHTS).read_bytes()
        (saved / WEIGHTS).write_bytes(content[: int(keep * len(content))])
        with pytest.raises(UsageError, match=r"is damaged .*: train again, or fetch it again"):
            load_bundle(saved)

    def test_weights_of_another_model(self, saved: Path, tmp_path: Path) -> None:
        bundle_of(trained("late", hidden_dim=5)).save(tmp_path / "other")
        shutil.copy(tmp_path / "other" / WEIGHTS, saved / WEIGHTS)
        with pytest.raises(UsageError, match=r"is damaged \(Error.* in loading state_dict.*\): train again") as caught:
            load_bundle(saved)
        assert len(str(caught.value)) < 400 + len(str(saved))

    def test_a_folder_without_a_description(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"is not a bundle: it holds no bundle\.json. `mmsa train` makes bundles"):
            load_bundle(tmp_path)

    @pytest.mark.parametrize("content", [b"{", b"\xff", b""])
    def test_a_description_that_is_no_json(self, saved: Path, content: bytes) -> None:
        (saved / DESCRIPTION).write_bytes(content)
        with pytest.raises(UsageError, match=r"bundle\.json is damaged"):
            load_bundle(saved)

    @pytest.mark.parametrize("content", ["[]", "{}", '{"format": 2}', "null"])
    def test_another_format(self, saved: Path, content: str) -> None:
        (saved / DESCRIPTION).write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match=r"another format than this version of mmsa reads \(1\): update mmsa"):
            load_bundle(saved)

    @pytest.mark.parametrize(
        "values",
        [
            {"model": {}},
            {"model": []},
            {"model": {"head": "late", "input_dims": [], "output_dim": 3}},
            {"model": {"head": "nonesuch", "input_dims": DIMS, "output_dim": 3}},
            {"tasks": 3},
            {"tasks": [{"kind": "regression"}]},
            {"tasks": ["x"]},
            {"tasks": [TASKS[0].to_dict()]},
            {"baseline": ["x"]},
            {"baseline": None},
            {"extractors": []},
            {"extractors": {"text": {"name": "x"}}},
            {"extractors": {"text": "x"}},
        ],
        ids=str,
    )
    def test_a_description_that_makes_no_sense(self, saved: Path, values: dict[str, Any]) -> None:
        change(saved, **values)
        with pytest.raises(UsageError, match=r"the bundle .* is damaged \("):
            load_bundle(saved)

    def test_a_missing_entry(self, saved: Path) -> None:
        data = json.loads((saved / DESCRIPTION).read_text(encoding="utf-8"))
        del data["note"]
        (saved / DESCRIPTION).write_text(json.dumps(data), encoding="utf-8")
        with pytest.raises(UsageError, match=r"is damaged \('note'\)"):
            load_bundle(saved)


class TestLocalFiles:
    @pytest.fixture
    def encoder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "my encoder"
        (folder / "inner").mkdir(parents=True)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        (folder / "inner" / "vocab.txt").write_text("a\nb\n", encoding="utf-8")
        return folder

    @staticmethod
    def spec(hint: str) -> ExtractorSpec:
        return ExtractorSpec("text.transformers", "transformers", "5.0", {"weights_sha256": "0" * 64}, {"model": hint})

    def test_an_encoder_folder_is_copied_in(self, encoder: Path, tmp_path: Path) -> None:
        spec = self.spec(str(encoder))
        bundle_of(trained(), {**SPECS, "text": spec}).save(tmp_path / "bundle")
        shutil.rmtree(encoder)
        moved = Path(shutil.move(tmp_path / "bundle", tmp_path / "elsewhere"))
        assert str(encoder) not in (moved / DESCRIPTION).read_text(encoding="utf-8")
        loaded = load_bundle(moved).extractors["text"]
        assert loaded == spec
        assert loaded.fingerprint == spec.fingerprint
        copy = Path(loaded.hints["model"])
        assert copy.is_relative_to(moved)
        assert (copy / "config.json").read_text(encoding="utf-8") == "{}"
        assert (copy / "inner" / "vocab.txt").read_text(encoding="utf-8") == "a\nb\n"

    def test_a_single_file_is_copied_in(self, tmp_path: Path) -> None:
        weights = tmp_path / "face.task"
        weights.write_bytes(b"model")
        spec = replace(SPECS["audio"], hints={"landmarker_path": str(weights)})
        bundle_of(trained(), {**SPECS, "audio": spec}).save(tmp_path / "bundle")
        weights.unlink()
        copy = Path(load_bundle(tmp_path / "bundle").extractors["audio"].hints["landmarker_path"])
        assert copy.read_bytes() == b"model"
        assert copy.name == "face.task"

    def test_hints_that_name_no_file_stay(self, tmp_path: Path) -> None:
        spec = replace(SPECS["audio"], hints={"model": "someone/some-model", "threads": 2})
        bundle_of(trained(), {**SPECS, "audio": spec}).save(tmp_path / "bundle")
        assert load_bundle(tmp_path / "bundle").extractors["audio"].hints == spec.hints

    @pytest.mark.parametrize("path", ["../my encoder", "/etc", "encoders/../../my encoder"])
    def test_a_path_that_leaves_the_bundle_is_refused(self, saved: Path, encoder: Path, path: str) -> None:
        change(saved, extractors={"text": self.spec(f"bundle:{path}").to_dict()})
        with pytest.raises(UsageError, match=f"the path 'bundle:{path}' leaves the bundle"):
            load_bundle(saved)

    def test_a_link_that_leaves_the_bundle_is_refused(self, saved: Path, encoder: Path) -> None:
        (saved / "encoders").symlink_to(encoder.parent)
        change(saved, extractors={"text": self.spec("bundle:encoders/my encoder").to_dict()})
        with pytest.raises(UsageError, match="leaves the bundle"):
            load_bundle(saved)


def test_the_description_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle whose writing was interrupted does not pass for one."""

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        bundle_of(trained()).save(tmp_path)
    with pytest.raises(UsageError, match="is not a bundle"):
        load_bundle(tmp_path)


def test_versions_name_what_decides_the_numbers() -> None:
    versions = library_versions()
    assert torch.__version__.startswith(versions["torch"])
    assert {"python", "librosa", "mediapipe", "av", "transformers", "numpy"} <= set(versions)
