"""Training an encoder with the head: what is learned, at which rate, and that it can be gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import extractors
from extractors.text.tokens import TextTokens
from fusion import ModalitySequence
from mmsa.checkpoint import Checkpoints
from mmsa.config import TrainConfig, make_config
from mmsa.corpora.clip import Corpus
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.evaluation import predict
from mmsa.features import FeatureTable
from mmsa.losses import Objective
from mmsa.model import MultimodalModel
from mmsa.tasks import Classification
from mmsa.trainer import Trainer, parameter_groups
from mmsa.training import Epoch, fit
from mmsa.workshop import sized_config

TASKS = (Classification("liked", ("no", "yes")),)
CPU = torch.device("cpu")
FRAMES = ("the movie was {}", "a very {} movie", "the {} movie was a movie!", "{} movies .")


@dataclass
class Made:
    train: SplitData
    valid: SplitData


@pytest.fixture(scope="session")
def blind(tmp_path_factory: pytest.TempPathFactory, make_bert: Callable[..., Path]) -> Path:
    """A BERT to which good and bad are one: they differ in what its last layer throws away, and nowhere else.

    Their embeddings are those of one another with features 0 and 1 swapped, which no normalisation notices. Nothing
    but the residual path carries anything (attention and feed-forward layers end in zeros), and the last normalisation
    multiplies both features by 0. No head can tell one from the other; adapters and full tuning can make the last
    feed-forward layer carry the difference over.
    """
    import transformers

    folder = make_bert(tmp_path_factory.mktemp("blind"), num_hidden_layers=1)
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        words = model.embeddings.word_embeddings.weight
        words[6] = words[5]
        words[6, [0, 1]] = words[5, [1, 0]]
        model.embeddings.position_embeddings.weight[:, :2] = 0
        model.embeddings.token_type_embeddings.weight[:, :2] = 0
        layer = model.encoder.layer[0]
        for end in (layer.attention.output.dense, layer.output.dense):
            end.weight.zero_()
            end.bias.zero_()
        layer.output.LayerNorm.weight[:2] = 0
        layer.output.LayerNorm.bias[:2] = 0
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def make(make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> Callable[..., Made]:
    """`(folder, audio=…)` → clips that are liked where they say good; with audio, noise for every other clip."""

    def made(folder: Path, *, clips: int = 32, audio: bool = False) -> Made:
        splits = ["train"] * clips + ["valid"] * clips
        words = ["bad", "good"] * clips
        texts: list[str | None] = [FRAMES[i // 2 % 4].format(word) for i, word in enumerate(words)]
        labels = [{"liked": ("no", "yes")[word == "good"]} for word in words]
        read = list(extractors.extract_texts(TextTokens(model=str(folder)), texts))
        tables = {"text": make_table("text", [own.values for own in read])}
        if audio:
            random = np.random.default_rng(0)
            tables["audio"] = make_table("audio", [random.normal(size=(i % 2 * 3, 2)) for i in range(2 * clips)])
        corpus = make_corpus(TASKS, splits, labels)
        return Made(SplitData(corpus, tables, "train", TASKS), SplitData(corpus, tables, "valid", TASKS))

    return made


def settings(folder: Path, tune: str, **more: Any) -> TrainConfig:
    return make_config(
        None,
        {
            "head.hidden_dim": 8,
            "head.dropout": 0.0,
            "batch_size": 8,
            "learning_rate": 0.01,
            "modality_dropout": 0.0,
            "encoders.text.model": str(folder),
            "encoders.text.tune": tune,
            **({} if tune == "frozen" else {"encoders.text.learning_rate": 0.02}),
            **more,
        },
    )


def new_model(config: TrainConfig, data: Made) -> MultimodalModel:
    torch.manual_seed(config.seed)
    return MultimodalModel(sized_config(config, {key: len(t.names) for key, t in data.train.tables.items()}, TASKS))


def trained(config: TrainConfig, data: Made, **keywords: Any) -> MultimodalModel:
    model = new_model(config, data)
    fit(model, data.train, data.valid, TASKS, config, device=CPU, **keywords)
    return model


def accuracy(model: MultimodalModel, data: SplitData) -> float:
    return predict(model, data, TASKS, device=CPU).metrics(TASKS)["liked.accuracy"]


def weights(model: MultimodalModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def moved(before: Mapping[str, Tensor], model: MultimodalModel) -> set[str]:
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def test_frozen_hears_no_difference(blind: Path, make: Callable[..., Made]) -> None:
    """What makes the next test one: good and bad have the same hidden states."""
    data = make(blind)
    model = new_model(settings(blind, "frozen"), data)
    found = model.encode(data.train.batch(np.array([0, 1])).inputs)["text"]
    torch.testing.assert_close(found.values[0], found.values[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_tuning_learns_what_a_frozen_encoder_loses(blind: Path, make: Callable[..., Made], tune: str) -> None:
    data = make(blind)
    config = settings(blind, tune, epochs=24, patience_epochs=24)
    model = new_model(config, data)
    before = weights(model)
    fit(model, data.train, data.valid, TASKS, config, device=CPU)
    encoder = {name for name in before if name.startswith("encoders.")}
    changed = moved(before, model) & encoder
    if tune == "frozen":
        assert not changed
        assert accuracy(model, data.valid) == 0.5
    elif tune == "lora":
        assert changed == {name for name in encoder if ".lora_" in name}
        assert accuracy(model, data.valid) >= 0.95
    else:
        assert len(changed) > len(encoder) / 2
        assert accuracy(model, data.valid) >= 0.95


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_each_part_has_its_rate(bert: Path, make: Callable[..., Made], tune: str) -> None:
    """Groups hold every trained weight once; biases and normalisation of the encoder do not decay; all follow the
    schedule."""
    data = make(bert)
    more = {"encoders.text.learning_rate": 0.003, "encoders.text.weight_decay": 0.2, "weight_decay": 0.7}
    config = settings(bert, tune, epochs=4, warmup_epochs=1.0, **more)
    model = new_model(config, data)
    objective = Objective(TASKS, config.loss, data.train.labels)
    groups = {group["name"]: group for group in parameter_groups(model, objective, config)}
    assert set(groups) == {"head", "encoder.text"} | ({"encoder.text.plain"} if tune == "full" else set())
    held = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert groups["head"]["lr"] == 0.01
    assert (groups["encoder.text"]["lr"], groups["encoder.text"]["weight_decay"]) == (0.003, 0.2)
    assert all(p.ndim > 1 for p in groups["encoder.text"]["params"])
    if tune == "full":
        assert groups["encoder.text.plain"]["weight_decay"] == 0.0
        assert {p.ndim for p in groups["encoder.text.plain"]["params"]} == {1}
    trainer = Trainer(model, objective, data.train, config, device=CPU, updates_per_epoch=4)
    assert trainer.optimiser.param_groups[0]["weight_decay"] == 0.7
    for update in range(3):  # a warm-up of 4 updates
        trainer.step([np.arange(8)])
        factor = (update + 1) / 5
        rates = {group["name"]: group["lr"] for group in trainer.optimiser.param_groups}
        assert rates["head"] == pytest.approx(0.01 * factor)
        assert rates["encoder.text"] == pytest.approx(0.003 * factor)


def test_a_rate_decides_how_far_an_encoder_moves(bert: Path, make: Callable[..., Made]) -> None:
    """One step of AdamW moves a weight by about its rate, whatever the gradient."""
    data = make(bert)
    for rate in (1e-3, 1e-5):
        config = settings(bert, "full", **{"encoders.text.learning_rate": rate, "encoders.text.weight_decay": 0.0})
        model = new_model(config, data)
        before = weights(model)
        trainer = Trainer(
            model, Objective(TASKS, config.loss, data.train.labels), data.train, config, device=CPU, updates_per_epoch=1
        )
        trainer.step([np.arange(8)])
        name = "encoders.text.network.encoder.layer.0.output.dense.weight"
        step = (model.get_parameter(name) - before[name]).abs().detach()
        assert float(step.median()) == pytest.approx(rate, rel=0.05)


def test_parts_make_the_same_update(bert: Path, make: Callable[..., Made]) -> None:
    """Cut by what raw steps cost: two layers make a word piece count twice."""
    data = make(bert)
    config = settings(bert, "lora", part_steps=30)
    found = []
    for steps in (30, 10**6):
        model = new_model(config, data).eval()
        own = config.model_copy(update={"part_steps": steps})
        trainer = Trainer(
            model, Objective(TASKS, own.loss, data.train.labels), data.train, own, device=CPU, updates_per_epoch=1
        )
        parts = trainer.cut([np.arange(8)])
        assert all(len(part) * 2 * data.train.lengths[part].max() <= steps for part in parts)
        assert len(parts) == 1 or steps == 30
        trainer.step([np.arange(8)])
        found.append((len(parts), model))
    (several, one), (single, other) = found
    assert several > 2 > single
    for name, value in one.named_parameters():
        torch.testing.assert_close(value, other.get_parameter(name), atol=2e-4, rtol=0, msg=name)


def test_modality_dropout_comes_before_the_encoder(bert: Path, make: Callable[..., Made]) -> None:
    """A clip whose text is dropped is not encoded, and its audio is still seen."""
    data = make(bert, audio=True)
    config = settings(bert, "lora", modality_dropout=0.9)
    model = new_model(config, data)
    trainer = Trainer(
        model, Objective(TASKS, config.loss, data.train.labels), data.train, config, device=CPU, updates_per_epoch=1
    )
    seen: list[int] = []
    inner = model.encoders["text"]
    assert isinstance(inner, torch.nn.Module)
    inner.register_forward_pre_hook(lambda _, args: seen.append(int(args[0].present.sum())))
    torch.manual_seed(0)
    trainer.step([np.arange(32)])
    assert sum(seen) < 32
    # The 16 clips without audio keep their text, as the last modality is never dropped.
    assert sum(seen) >= 16


def stopped_and_gone_on_with(
    config: TrainConfig, data: Made, folder: Path, after: int
) -> tuple[MultimodalModel, list[Epoch]]:
    """Stop after an epoch, make everything anew, and go on from the file."""

    class StoppedError(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        if epoch.number == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        trained(config, data, on_epoch=stop, checkpoints=Checkpoints(folder, {}, every_updates=2))
    torch.manual_seed(99)
    model = new_model(config, data)
    history = fit(
        model, data.train, data.valid, TASKS, config, device=CPU, checkpoints=Checkpoints(folder, {}, every_updates=2)
    )
    return model, list(history.epochs)


@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.9, "encoders.text.gradient_checkpointing": True}])
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_resumed_bit_for_bit(
    bert: Path, make: Callable[..., Made], tmp_path: Path, tune: str, more: dict[str, Any]
) -> None:
    """With dropout in the encoder and in the head, whose draws must go on where they were."""
    data = make(bert, clips=16, audio=True)
    config = settings(bert, tune, epochs=3, modality_dropout=0.3, **{"head.dropout": 0.2, **more})
    whole = trained(config, data)
    again, epochs = stopped_and_gone_on_with(config, data, tmp_path, after=1)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    expected = dict(whole.named_parameters())
    for name, value in again.named_parameters():
        assert torch.equal(value, expected[name]), name


def test_a_checkpoint_leaves_out_what_lies_beneath_adapters(
    bert: Path, make: Callable[..., Made], tmp_path: Path
) -> None:
    data = make(bert, clips=8)
    kept = Checkpoints(tmp_path, {})
    trained(settings(bert, "lora", epochs=1, ema_decay=0.5), data, checkpoints=kept)
    found = kept.load()
    assert found is not None
    inside = {name for name in found.tensors if "encoders.text" in name}
    beneath = {name for name in inside if ".lora_" not in name}
    assert {name.rpartition(".")[2] for name in beneath} <= {"position_ids", "token_type_ids"}
    assert {name.partition(".")[0] for name in inside if ".lora_" in name} == {"model", "best", "average"}


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_bf16_trains_and_leaves_float32(bert: Path, make: Callable[..., Made], tune: str) -> None:
    data = make(bert)
    config = settings(bert, tune, epochs=10, patience_epochs=10, precision="bf16")
    model = new_model(config, data)
    seen: set[torch.dtype] = set()
    network: Any = model.encoders["text"].network
    network.encoder.layer[0].intermediate.dense.register_forward_hook(
        lambda module, _, output: seen.add(output.dtype) if module.training else None
    )
    before = weights(model)
    fit(model, data.train, data.valid, TASKS, config, device=CPU)
    assert seen == {torch.bfloat16}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert any(name.startswith("encoders.") for name in moved(before, model))
    assert accuracy(model, data.valid) >= 0.95


def test_numbers_that_are_not_finite_are_traced_to_the_encoder(bert: Path, make: Callable[..., Made]) -> None:
    data = make(bert)
    config = settings(bert, "lora")
    model = new_model(config, data)
    trainer = Trainer(
        model, Objective(TASKS, config.loss, data.train.labels), data.train, config, device=CPU, updates_per_epoch=1
    )
    with torch.no_grad():  # the embedding of "bad", which every other clip says
        model.encoders["text"].network.embeddings.word_embeddings.weight[6] = torch.inf  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"what the encoder of text makes of it is not, in the clips 0, 2, 4 and"):
        trainer.step([np.arange(16)])


def test_the_normaliser_is_fitted_on_what_the_encoder_gives(bert: Path, make: Callable[..., Made]) -> None:
    data = make(bert, audio=True)
    config = settings(bert, "frozen")
    model = new_model(config, data)
    model.fit_normalisers(data.train)
    everyone = data.train.batch(np.arange(len(data.train)))
    with torch.no_grad():
        for key, features in model.encode(everyone.inputs).items():
            real = features.values[features.mask].double()
            state = model.state_dict()
            torch.testing.assert_close(
                state[f"normalisers.{key}.mean"].double(), real.mean(dim=0), atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(
                state[f"normalisers.{key}.scale"].double(), real.std(dim=0, correction=0), atol=1e-5, rtol=1e-4
            )


def test_the_head_starts_alike_with_and_without(bert: Path, make: Callable[..., Made]) -> None:
    data = make(bert)
    config = settings(bert, "lora")
    model = new_model(config, data)
    torch.manual_seed(config.seed)
    alone = MultimodalModel(replace(model.config, encoders={}))
    for name, value in alone.named_parameters():
        assert torch.equal(value, model.get_parameter(name)), name


def test_mixed_with_extracted_features(bert: Path, make: Callable[..., Made]) -> None:
    """Audio comes as it was extracted; clips without it are predicted from text alone."""
    data = make(bert, audio=True)
    model = trained(settings(bert, "lora", epochs=1), data)
    batch = data.valid.batch(np.arange(8))
    with torch.no_grad():
        whole = model(batch.inputs).prediction
        text = model({"text": batch.inputs["text"]}).prediction
        assert isinstance(batch.inputs["audio"], ModalitySequence)
    assert torch.allclose(whole[0::2], text[0::2], atol=1e-5)
    assert not torch.allclose(whole[1::2], text[1::2], atol=1e-3)
