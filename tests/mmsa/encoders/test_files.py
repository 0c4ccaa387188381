"""A run with an encoder from end to end: trained, evaluated, scored from its bundle, gone on with."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mmsa
from mmsa.bundle import load_bundle
from mmsa.config import TrainConfig, make_config
from mmsa.encoders.config import EncoderConfig
from mmsa.encoders.files import pack_encoders, unpack_encoders
from mmsa.encoders.spec import encoder_spec, located
from mmsa.errors import UsageError
from mmsa.runs import Run, resume, train
from mmsa.scoring.scorer import load_scorer, model_digest

WORDS = ("good", "bad")
FRAMES = ("the movie was {}", "a very {} movie !", "not the {} movies", "{}")


def write_corpus(folder: Path) -> Path:
    folder.mkdir()
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "transcript", "mood"])
        for split in ("train", "valid", "test"):
            for i in range(8):
                text = "" if (split, i) == ("test", 7) else FRAMES[i // 2].format(WORDS[i % 2])
                writer.writerow([f"{split}{i}", split, text, (0.8, -0.8)[i % 2]])
    (folder / "clips.yaml").write_text("tasks: {mood: {kind: regression, low: -1, high: 1}}\n", encoding="utf-8")
    return folder


@pytest.fixture
def config(bert: Path, tmp_path: Path, workspace: Path) -> Callable[..., TrainConfig]:
    """`(tune, **settings)` → settings of a small run; the encoder lies in a folder that may be taken away."""
    model = Path(shutil.copytree(bert, tmp_path / "model"))
    corpus = write_corpus(tmp_path / "mine")

    def made(tune: str, **settings: Any) -> TrainConfig:
        own = {
            "corpus": str(corpus),
            "encoders.text.model": str(model),
            "encoders.text.tune": tune,
            "head.hidden_dim": 6,
            "epochs": 2,
            "batch_size": 4,
            "device": "cpu",
            "jobs": 1,
        }
        return make_config(None, {**own, **settings})

    return made


def predictions(run: Run) -> dict[str, float]:
    """Of the test clips, as the run wrote them."""
    with (run.bundle.parent / "predictions_test.csv").open(encoding="utf-8") as file:
        return {row["clip"]: float(row["mood.prediction"]) for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["lora", "full", "frozen"])
def test_scored_as_it_was_tested(
    config: Callable[..., TrainConfig], tmp_path: Path, write_wav: Callable[..., Path], tune: str
) -> None:
    """From a bundle that was moved, with the encoder's folder gone; and evaluated the same."""
    run = train(config(tune))
    expected = predictions(run)
    moved = Path(shutil.copytree(run.bundle, tmp_path / "elsewhere"))
    shutil.rmtree(tmp_path / "model")
    assert mmsa.evaluate(run.id, device="cpu", jobs=1).test_metrics == pytest.approx(dict(run.test_metrics), abs=1e-6)
    scorer = load_scorer(moved)
    media = write_wav(tmp_path / "talk.wav", [0.5] * 30)
    for i in (0, 1, 4):
        score = scorer.score(media, text=FRAMES[i // 2].format(WORDS[i % 2]))
        found = score.scores["mood"].value
        assert found == pytest.approx(max(-1, min(1, expected[f"test{i}"])), abs=1e-5)
    with pytest.raises(UsageError, match=r"nothing to score in .*text: no transcript"):
        scorer.score(media)
    weights = sorted(str(path.relative_to(moved)) for path in moved.rglob("*.safetensors"))
    beneath = [name for name in weights if name.startswith("encoders/")]
    assert "weights.safetensors" in weights
    assert len(beneath) == (0 if tune == "full" else 1)
    assert not [path for path in moved.rglob("*") if path.suffix in {".pkl", ".pt", ".bin"}]


@pytest.mark.slow
def test_gone_on_with(config: Callable[..., TrainConfig], tmp_path: Path, bert: Path) -> None:
    """Killed after the first epoch: the same weights as the run that was not; refused where the base is another."""
    own = config("lora", **{"head.dropout": 0.2, "epochs": 3})
    whole = load_bundle(train(own).bundle).model.state_dict()

    class StoppedError(Exception):
        pass

    def stop(_: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train(own, on_epoch=stop)
    kept = tmp_path / "model" / "config.json"
    text = kept.read_text(encoding="utf-8")
    kept.write_text(text.replace('"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": 0.2'), encoding="utf-8")
    assert kept.read_text(encoding="utf-8") != text
    with pytest.raises(UsageError, match=r"has changed .*encoders: .*weights_sha256"):
        resume()
    kept.write_text(text, encoding="utf-8")
    again = load_bundle(resume().bundle).model.state_dict()
    assert set(again) == set(whole)
    assert any(".lora_" in name for name in again)
    for name, value in whole.items():
        assert torch.equal(again[name], value), name


def saved(folder: Path, model: Path, tune: str = "lora") -> Path:
    """A bundle of an encoder and a head without any training."""
    from mmsa.bundle import Bundle, library_versions
    from mmsa.model import MultimodalModel
    from mmsa.tasks import Regression
    from mmsa.workshop import sized_config

    own = make_config(
        None,
        {"encoders.text.model": str(model), "encoders.text.tune": tune, "head.hidden_dim": 4, "modalities": ["text"]},
    )
    tasks = (Regression("mood", -1, 1),)
    import extractors

    reader = extractors.build(own.extractor("text").name, **own.extractor("text").parameters)
    network = MultimodalModel(sized_config(own, {"text": 3}, tasks))
    Bundle(network.eval(), tasks, {"text": reader.spec}, "made", "", library_versions(), (0.0,)).save(folder)
    return folder


def change_hint(bundle: Path, hint: str) -> None:
    path = bundle / "bundle.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["model"]["encoders"]["text"]["hints"]["model"] = hint
    path.write_text(json.dumps(data), encoding="utf-8")


def test_weights_that_are_missing(bert: Path, tmp_path: Path) -> None:
    bundle = saved(tmp_path / "bundle", bert)
    change_hint(bundle, "package:nothing_like_it/model")
    with pytest.raises(UsageError, match=r"the bundle .*starts from weights that are not here .*no Python package"):
        load_bundle(bundle)
    change_hint(bundle, "bundle:../../outside")
    with pytest.raises(UsageError, match=r"is damaged \(the path 'bundle:\.\./\.\./outside' leaves the bundle"):
        load_bundle(bundle)


def test_other_weights_in_their_place(bert: Path, tmp_path: Path, make_bert: Callable[..., Path]) -> None:
    bundle = saved(tmp_path / "bundle", bert)
    change_hint(bundle, str(make_bert(tmp_path / "other", initializer_range=0.1)))
    with pytest.raises(UsageError, match=r"have the SHA-256 .* is required"):
        load_bundle(bundle)


def test_a_bundle_without_peft(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    bundle = saved(tmp_path / "bundle", bert)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else real(name))
    with pytest.raises(UsageError, match=r"the bundle .* needs the package peft"):
        load_bundle(bundle)


def test_weights_that_were_cut_off(bert: Path, tmp_path: Path) -> None:
    """The bundle's own weights must hold every adapter."""
    from safetensors.torch import load_file, save_file

    bundle = saved(tmp_path / "bundle", bert)
    weights = load_file(bundle / "weights.safetensors")
    assert all("encoders.text" not in name or ".lora_" in name for name in weights)
    weights.pop(next(name for name in weights if ".lora_A" in name))
    save_file(weights, bundle / "weights.safetensors")
    with pytest.raises(UsageError, match=r"is damaged .*Missing key.*lora_A"):
        load_bundle(bundle)


def test_the_digest_is_of_the_model_and_not_of_its_place(bert: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bundle = saved(tmp_path / "bundle", bert)
    moved = Path(shutil.copytree(bundle, tmp_path / "moved"))
    assert model_digest(load_bundle(bundle)) == model_digest(load_bundle(moved))


def test_packing(bert: Path, tmp_path: Path) -> None:
    """Weights beneath adapters are copied; those of full tuning are not; a package is named."""

    def packed(tune: str, hint: str | None = None) -> Any:
        spec = encoder_spec("text", EncoderConfig(model=str(bert), tune=tune))  # type: ignore[arg-type]
        if hint is not None:
            spec = located(spec, hint)
        return pack_encoders({"text": spec.to_dict()}, tmp_path)["text"]["hints"]

    assert packed("full") == {}
    assert not (tmp_path / "encoders").exists()
    assert packed("lora", "package:some_package/model") == {"model": "package:some_package/model"}
    hints = packed("lora")
    inside = hints["model"].removeprefix("bundle:")
    assert (tmp_path / inside / "model.safetensors").read_bytes() == (bert / "model.safetensors").read_bytes()
    spec = encoder_spec("text", EncoderConfig(model=str(bert), tune="lora"))
    found = unpack_encoders({"text": {**spec.to_dict(), "hints": hints}}, tmp_path)
    assert found["text"]["hints"] == {"model": str((tmp_path / inside).resolve())}
