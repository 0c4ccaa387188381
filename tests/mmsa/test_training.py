from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion import FusionOutput, ModalitySequence
from mmsa.checkpoint import Checkpoints, module_tensors
from mmsa.config import TrainConfig
from mmsa.corpora.clip import Corpus
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.evaluation import predict
from mmsa.features import FeatureTable
from mmsa.loss_config import LossConfig
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.tasks import Classification, Regression
from mmsa.trainer import Trainer
from mmsa.training import Epoch, History, fit

SENTIMENT = Regression("sentiment", -1, 1)
EMOTION = Classification("emotion", ("low", "high"))
TASKS = (SENTIMENT, EMOTION)
CPU = torch.device("cpu")
CONFIG = TrainConfig(epochs=40, patience_epochs=40, batch_size=8, learning_rate=0.02, modality_dropout=0.0)
State = dict[str, Tensor]


@dataclass
class Made:
    """Both modalities show the label: high clips lie around `shift + 1`, low ones around `shift - 1`."""

    train: SplitData
    valid: SplitData


@pytest.fixture
def made(make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> Callable[..., Made]:
    """`(flipped=…)`: with True, the validation split says the opposite of the training split."""

    def make(*, flipped: bool = False, clips: int = 24, seed: int = 0, tasks: Any = TASKS) -> Made:
        random = np.random.default_rng(seed)
        splits = ["train"] * clips + ["valid"] * (clips // 2)
        high = [i % 2 == 0 for i in range(len(splits))]
        labels = []
        for split, is_high in zip(splits, high, strict=True):
            said = is_high != (flipped and split == "valid")
            labels.append({"sentiment": 0.8 if said else -0.8, "emotion": EMOTION.classes[said]})
        shift = {"train": 5.0, "valid": 5.1}

        def sequences(dim: int) -> list[Any]:
            return [
                shift[split] + (1 if is_high else -1) + 0.1 * random.normal(size=(random.integers(1, 4), dim))
                for split, is_high in zip(splits, high, strict=True)
            ]

        tables = {"text": make_table("text", sequences(2)), "audio": make_table("audio", sequences(1))}
        kept = [{task.name: own[task.name] for task in tasks} for own in labels]
        corpus = make_corpus(tasks, splits, kept)
        return Made(SplitData(corpus, tables, "train", tasks), SplitData(corpus, tables, "valid", tasks))

    return make


def new_model(head: str = "late", seed: int = 0, **options: Any) -> MultimodalModel:
    torch.manual_seed(seed)
    return MultimodalModel(ModelConfig(head, {"audio": 1, "text": 2}, 3, {"hidden_dim": 8, **options}))


def train_on(model: MultimodalModel, data: Made, config: TrainConfig = CONFIG, **keywords: Any) -> History:
    return fit(model, data.train, data.valid, TASKS, config, device=CPU, **keywords)


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert set(one) == set(other)
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_a_separable_problem_is_learned(made: Callable[..., Made]) -> None:
    data, model = made(), new_model()
    train_on(model, data, CONFIG.model_copy(update={"epochs": 15, "learning_rate": 0.05}))
    for split in (data.train, data.valid):
        found = predict(model, split, TASKS, device=CPU).metrics(TASKS)
        assert found["emotion.accuracy"] == 1.0
        assert found["sentiment.mae"] < 0.1
    assert not model.training


def test_the_best_validation_epoch_is_kept(made: Callable[..., Made]) -> None:
    """The validation split contradicts the training split, so that learning makes it worse from some epoch on."""
    model = new_model()
    states: list[State] = []
    seen: list[Epoch] = []

    def remember(epoch: Epoch) -> None:
        seen.append(epoch)
        states.append(copy.deepcopy(model.state_dict()))

    data = made(flipped=True)
    history = train_on(model, data, CONFIG.model_copy(update={"patience_epochs": 4}), on_epoch=remember)
    losses = [epoch.valid_loss for epoch in history.epochs]
    assert history.best == 1 + int(np.argmin(losses))
    assert len(history.epochs) == history.best + 4 < CONFIG.epochs
    assert losses[-1] > losses[history.best - 1]
    assert_same(model.state_dict(), states[history.best - 1])
    assert not torch.equal(states[-1]["head.logits"], states[history.best - 1]["head.logits"])
    assert predict(model, data.valid, TASKS, device=CPU).loss == losses[history.best - 1]
    assert tuple(seen) == history.epochs
    assert [epoch.number for epoch in seen] == list(range(1, len(seen) + 1))


def test_epochs_are_bounded(made: Callable[..., Made]) -> None:
    history = train_on(new_model(), made(), CONFIG.model_copy(update={"epochs": 3}))
    assert len(history.epochs) == 3
    assert all(math.isfinite(epoch.train_loss) for epoch in history.epochs)


def test_the_total_is_the_sum_of_its_terms(made: Callable[..., Made]) -> None:
    history = train_on(new_model(), made(), CONFIG.model_copy(update={"epochs": 2}))
    for epoch in history.epochs:
        assert set(epoch.parts) == {"task", "unimodal_audio", "unimodal_text"}
        assert epoch.train_loss == pytest.approx(sum(epoch.parts.values()))


def trained(data: Made, seed: int) -> State:
    torch.manual_seed(seed)
    model = MultimodalModel(ModelConfig("late", {"audio": 1, "text": 2}, 3, {"hidden_dim": 4}))
    train_on(model, data, TrainConfig(epochs=3, batch_size=8, seed=seed, modality_dropout=0.3))
    return copy.deepcopy(model.state_dict())


def test_the_same_seed_gives_the_same_weights(made: Callable[..., Made]) -> None:
    data = made()
    assert_same(trained(data, 7), trained(data, 7))
    assert not torch.equal(trained(data, 8)["head.logits"], trained(data, 7)["head.logits"])


def test_the_seed_decides_the_order_of_the_batches(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    orders: dict[int, list[list[int]]] = {}
    data = made()
    for seed in (1, 1, 2):
        order: list[list[int]] = []
        step = Trainer.step
        with monkeypatch.context() as patch:
            patch.setattr(
                Trainer, "step", lambda self, parts, o=order, s=step: (o.append(parts[0].tolist()), s(self, parts))[1]
            )
            train_on(new_model(), data, CONFIG.model_copy(update={"epochs": 2, "seed": seed}))
        assert orders.setdefault(seed, order) == order
        for epoch in (order[:3], order[3:]):
            assert sorted(i for batch in epoch for i in batch) == list(range(24))
        assert order[:3] != order[3:]
    assert orders[1] != orders[2]


def test_fit_has_no_way_to_see_a_test_split() -> None:
    parameters = inspect.signature(fit).parameters
    assert list(parameters) == ["model", "train", "valid", "tasks", "config", "device", "on_epoch", "checkpoints"]


def test_normalisers_are_fitted_on_the_training_split(made: Callable[..., Made]) -> None:
    data, model = made(), new_model()
    train_on(model, data, CONFIG.model_copy(update={"epochs": 1}))
    (batch,) = data.train.batches(64)
    for key, sequence in batch.inputs.items():
        real = sequence.values[sequence.mask].double()
        torch.testing.assert_close(
            model.state_dict()[f"normalisers.{key}.mean"].double(), real.mean(dim=0), rtol=1e-5, atol=0
        )


def test_validation_does_not_train(made: Callable[..., Made]) -> None:
    """Which labels the validation split has decides which epoch is kept, and nothing else."""
    states: list[list[State]] = []
    for flipped in (False, True):
        model = new_model()
        own: list[State] = []
        train_on(
            model,
            made(flipped=flipped),
            CONFIG.model_copy(update={"epochs": 3}),
            on_epoch=lambda _, own=own, model=model: own.append(copy.deepcopy(model.state_dict())),
        )
        states.append(own)
    for one, other in zip(*states, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_unusable_features_are_told_before_anything_is_spoilt(
    made: Callable[..., Made], split: str, value: float
) -> None:
    data, model = made(), new_model()
    clip = 25 if split == "valid" else 3
    table = data.train.tables["text"]
    table.values[table.offsets[clip], 1] = value
    before = copy.deepcopy(model.state_dict())
    expected = rf"features of the {split} split are not finite .*: text of the clip {clip} \(text\.made\)\."
    with pytest.raises(UsageError, match=expected):
        train_on(model, data)
    assert_same(model.state_dict(), before)


def test_nothing_is_dropped_in_validation(made: Callable[..., Made]) -> None:
    data, model = made(), new_model()
    seen: list[Mapping[str, ModalitySequence]] = []
    model.head.register_forward_pre_hook(
        lambda module, arguments: None if module.training else seen.append(arguments[0])
    )
    train_on(model, data, CONFIG.model_copy(update={"epochs": 2, "modality_dropout": 0.9}))
    assert len(seen) == 2
    assert all(inputs[key].present.all() for inputs in seen for key in ("audio", "text"))


@pytest.mark.parametrize(("head", "weight"), [("late", 0.0), ("early", 0.3)])
def test_there_are_no_unimodal_terms_without_weight_or_without_predictions(
    made: Callable[..., Made], head: str, weight: float
) -> None:
    config = CONFIG.model_copy(update={"epochs": 1, "loss": LossConfig(unimodal_weight=weight)})
    assert set(train_on(new_model(head), made(), config).epochs[0].parts) == {"task"}


def test_a_heads_own_losses_are_added(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    """Objectives that need the label get targets in the layout of predictions, and the clips' positions."""
    data, model = made(), new_model()
    given: list[tuple[Tensor, Tensor]] = []

    def target_losses(output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        given.append((target, index))
        return {"own": output.prediction.sum() * 0 + 2.0}

    monkeypatch.setattr(model.head, "target_losses", target_losses)
    fused = model.head.fuse
    monkeypatch.setattr(model.head, "fuse", lambda inputs: with_loss(fused(inputs)))
    history = train_on(model, data, CONFIG.model_copy(update={"epochs": 1}))
    assert history.epochs[0].parts["own"] == 2.0
    assert history.epochs[0].parts["asked"] == 3.0
    assert history.epochs[0].train_loss == pytest.approx(sum(history.epochs[0].parts.values()))
    positions = torch.cat([index for _, index in given])
    assert sorted(positions.tolist()) == list(range(24))
    targets = torch.cat([target for target, _ in given])[positions.argsort()]
    expected = torch.tensor([[0.8, 0, 1], [-0.8, 1, 0]]).repeat(12, 1)  # even clips are high
    torch.testing.assert_close(targets, expected)


def with_loss(output: FusionOutput) -> FusionOutput:
    return FusionOutput(
        output.prediction, output.unimodal, {"asked": output.prediction.sum() * 0 + 3.0}, output.weights
    )


def test_a_closing_step_gets_the_validation_split_and_the_best_weights(made: Callable[..., Made]) -> None:
    data, model = made(flipped=True), new_model()
    calls: list[Any] = []
    states: list[State] = []

    def closing(batches: Any) -> None:
        calls.append((list(batches), copy.deepcopy(model.state_dict()), model.training))

    model.head.fit_after_training = closing  # type: ignore[assignment]
    config = CONFIG.model_copy(update={"patience_epochs": 2})
    history = train_on(model, data, config, on_epoch=lambda _: states.append(copy.deepcopy(model.state_dict())))
    ((batches, state, training),) = calls
    assert not training
    assert_same(state, states[history.best - 1])
    targets = torch.cat([target for _, target in batches])
    np.testing.assert_allclose(targets[:, 0].numpy(), data.valid.labels["sentiment"])
    prepared = torch.cat([inputs["text"].values[inputs["text"].mask] for inputs, _ in batches])
    (batch,) = data.valid.batches(64)
    expected = model.prepare(batch.inputs)["text"]
    torch.testing.assert_close(prepared, expected.values[expected.mask])


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it runs in the training."""


def without_times(history: History) -> list[tuple[Any, ...]]:
    return [
        (e.number, e.train_loss, e.valid_loss, e.valid_metrics, e.parts, e.progress["gradient_norm"])
        for e in history.epochs
    ]


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("self_mm", {"modality_dropout": 0.4, "accumulate": 2, "ema_decay": 0.8}),
        ("late", {"schedule": "plateau", "plateau_epochs": 1, "loss": LossConfig(task_weights="learned")}),
        ("stacking", {"schedule": "cosine", "warmup_epochs": 1.5, "select": "sentiment.mae"}),
    ],
)
def test_a_training_killed_anywhere_ends_as_if_it_never_was(
    made: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, values: dict[str, Any]
) -> None:
    """After each checkpoint, within epochs and between them; bit for bit, with all that heads remember."""
    settings = {"epochs": 4, "patience_epochs": 2, "batch_size": 6, "learning_rate": 0.03, **values}
    config, data = TrainConfig.model_validate(settings), made(flipped=True)
    save = Checkpoints.save

    def train(folder: str, seed: int, kill_after: int | None = None) -> tuple[MultimodalModel, History]:
        saved = 0

        def save_and_die(self: Checkpoints, *content: Any) -> None:
            nonlocal saved
            save(self, *content)
            saved += 1
            if saved == kill_after:
                raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", save_and_die)
            model = new_model(head, seed, dropout=0.3)
            return model, train_on(model, data, config, checkpoints=Checkpoints(tmp_path / folder, {}, every_updates=1))

    whole, history = train("whole", 0)
    expected = {key: value.clone() for key, value in module_tensors(whole).items()}
    updates = 2 if config.accumulate == 2 else 4
    points = len(history.epochs) * updates
    assert points >= 6
    for point in range(1, points + 1):
        with pytest.raises(KilledError):
            train(str(point), 0, kill_after=point)
        model, found = train(str(point), 1000 + point)  # other weights and random numbers, were they not restored
        assert without_times(found) == without_times(history), point
        assert found.best == history.best
        assert_same(module_tensors(model), expected)


def test_a_finished_training_is_not_trained_again(made: Callable[..., Made], tmp_path: Path) -> None:
    config, data = CONFIG.model_copy(update={"epochs": 2}), made()
    first, second = new_model(), new_model(seed=1)
    history = train_on(first, data, config, checkpoints=Checkpoints(tmp_path, {}))
    seen: list[Epoch] = []
    again = train_on(second, data, config, checkpoints=Checkpoints(tmp_path, {}), on_epoch=seen.append)
    assert again == history
    assert seen == []
    assert_same(second.state_dict(), first.state_dict())


def test_the_average_is_what_is_judged_and_kept(made: Callable[..., Made]) -> None:
    """With a decay so slow that the average lies far behind the weights."""
    data, model = made(), new_model(dropout=0.0)
    running: list[State] = []
    config = CONFIG.model_copy(update={"epochs": 3, "ema_decay": 0.5})
    history = train_on(model, data, config, on_epoch=lambda _: running.append(copy.deepcopy(model.state_dict())))
    kept = model.state_dict()
    assert predict(model, data.valid, TASKS, device=CPU).loss == history.epochs[history.best - 1].valid_loss
    assert not torch.equal(kept["head.logits"], running[history.best - 1]["head.logits"])
    plain = new_model(dropout=0.0)
    states: list[State] = []
    train_on(
        plain,
        data,
        config.model_copy(update={"ema_decay": 0.0}),
        on_epoch=lambda _: states.append(copy.deepcopy(plain.state_dict())),
    )
    for one, other in zip(running, states, strict=True):  # averaging does not change the training itself
        assert_same(one, other)


def test_the_measure_that_is_selected_on_decides(made: Callable[..., Made]) -> None:
    config = CONFIG.model_copy(update={"epochs": 8, "select": "emotion.uar", "patience_epochs": 8})
    history = train_on(new_model(), made(flipped=True), config)
    measured = [epoch.valid_metrics["emotion.uar"] for epoch in history.epochs]
    assert history.best == 1 + int(np.argmax(measured))
    assert history.best != 1 + int(np.argmin([epoch.valid_loss for epoch in history.epochs])) or len(set(measured)) == 1


def test_an_epoch_tells_how_it_went(made: Callable[..., Made]) -> None:
    config = CONFIG.model_copy(update={"epochs": 2, "warmup_epochs": 1, "batch_size": 5, "bucketing": False})
    data = made()
    first, second = train_on(new_model(), data, config).epochs
    # Five updates; the warm-up takes them to 1/6 ... 5/6 of the learning rate.
    assert first.progress["learning_rate"] == pytest.approx(0.02 * 0.5)
    assert second.progress["learning_rate"] == pytest.approx(0.02)
    for epoch in (first, second):
        assert 0 < epoch.progress["gradient_norm"] < 100
        assert 0 < epoch.progress["padding"] < 1
        assert epoch.progress["clips_per_second"] >= 24 / epoch.progress["seconds"]


def test_bucketing_pads_less_and_learns_as_well(made: Callable[..., Made]) -> None:
    data = made(clips=48)
    found = {}
    for on in (True, False):
        model = new_model()
        config = CONFIG.model_copy(update={"epochs": 15, "learning_rate": 0.05, "bucketing": on})
        history = train_on(model, data, config)
        found[on] = history.epochs[0].progress["padding"]
        assert predict(model, data.valid, TASKS, device=CPU).metrics(TASKS)["emotion.accuracy"] == 1.0
    assert found[True] < found[False]
