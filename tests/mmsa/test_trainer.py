from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion import FusionOutput, ModalitySequence
from mmsa.batching import CPU_PART_STEPS
from mmsa.config import TrainConfig
from mmsa.corpora.clip import Corpus
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.features import FeatureTable
from mmsa.loss_config import LossConfig
from mmsa.losses import Objective
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.tasks import Classification, Regression
from mmsa.trainer import Trainer, Update, part_steps

SENTIMENT = Regression("sentiment", -1, 1)
EMOTION = Classification("emotion", ("low", "high"))
TASKS = (SENTIMENT, EMOTION)
CPU = torch.device("cpu")
CLIPS = 12


@pytest.fixture
def data(make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> SplitData:
    """Two modalities, ragged, some missing; some clips lack one label or both."""
    random = np.random.default_rng(0)
    lengths = {"audio": random.integers(0, 5, CLIPS), "text": random.integers(1, 4, CLIPS)}
    tables = {key: make_table(key, [random.normal(size=(n, 2)) for n in own]) for key, own in lengths.items()}
    labels: list[dict[str, Any]] = []
    for i in range(CLIPS):
        own = {"sentiment": float(random.uniform(-1, 1)), "emotion": EMOTION.classes[i % 2]}
        labels.append(
            {key: value for key, value in own.items() if i not in {"sentiment": (1, 5), "emotion": (5, 8, 9)}[key]}
        )
    return SplitData(make_corpus(TASKS, ["train"] * CLIPS, labels), tables, "train", TASKS)


def new_trainer(data: SplitData, head: str = "late", seed: int = 0, updates: int = 3, **values: Any) -> Trainer:
    settings = {"learning_rate": 0.01, "modality_dropout": 0.0, **values}
    torch.manual_seed(seed)
    model = MultimodalModel(ModelConfig(head, {"audio": 2, "text": 2}, 3, {"hidden_dim": 8, "dropout": 0.0}))
    model.train()
    config = TrainConfig.model_validate(settings)
    objective = Objective(TASKS, config.loss, data.labels)
    return Trainer(model, objective, data, config, device=CPU, updates_per_epoch=updates)


def state(trainer: Trainer) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in trainer.model.state_dict().items()}


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor], atol: float = 1e-6) -> None:
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


def index(*clips: int) -> Any:
    return np.array(clips, np.int64)


class TestAccumulation:
    """Parts of any sizes, the last one smaller, make the update of the whole: missing labels count where they lie."""

    PARTS: tuple[Sequence[int], ...] = ((0, 1, 2, 3, 4), (5,), (6, 7, 8, 9), (10, 11))

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"modality_dropout": 0.6},
            {"loss": LossConfig(class_weights="balanced", task_weights="learned", regression="huber")},
            {"loss": LossConfig(classification="focal", label_smoothing=0.1, unimodal_weight=2.0)},
        ],
        ids=["plain", "dropout", "learned", "focal"],
    )
    def test_parts_are_as_good_as_the_whole(self, data: SplitData, values: dict[str, Any]) -> None:
        """Modality dropout is drawn for all parts at once, so that both draw the same."""
        whole, parts = (new_trainer(data, learning_rate=0.05, clip_norm=0.5, **values) for _ in range(2))
        for seed in range(3):
            torch.manual_seed(seed)
            first = whole.step([np.concatenate([index(*part) for part in self.PARTS])])
            torch.manual_seed(seed)
            second = parts.step([index(*part) for part in self.PARTS])
            assert second.clips == first.clips == CLIPS
            assert second.terms == pytest.approx(first.terms, abs=1e-6)
            assert second.gradient_norm == pytest.approx(first.gradient_norm, rel=1e-4)
        assert not torch.equal(whole.model.state_dict()["head.logits"], torch.zeros(2))
        assert_close(state(parts), state(whole), atol=2e-5)
        for one, other in zip(parts.objective.parameters(), whole.objective.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=2e-5)

    @pytest.mark.parametrize("steps", [1, 5, 12])
    def test_a_batch_that_is_too_large_is_computed_in_parts(self, data: SplitData, steps: int) -> None:
        whole, cut = new_trainer(data, part_steps=10**6), new_trainer(data, part_steps=steps)
        batches = [np.arange(7), np.arange(7, CLIPS)]
        (uncut,) = whole.cut(batches[:1])
        assert sorted(uncut.tolist()) == list(range(7))
        assert len(cut.cut(batches)) > 2
        for _ in range(2):
            first, second = whole.step(batches), cut.step(batches)
            assert second.terms == pytest.approx(first.terms, abs=1e-6)
            assert second.gradient_norm == pytest.approx(first.gradient_norm, rel=1e-4)
        assert_close(state(cut), state(whole), atol=2e-5)

    def test_it_is_not_the_mean_of_the_parts(self, data: SplitData) -> None:
        """What a loop without totals computes: each part's mean, averaged. Labels that are missing would count."""
        trainer = new_trainer(data)
        parts = [index(*part) for part in self.PARTS]
        right = trainer.step(parts).terms["task"]
        trainer = new_trainer(data)
        naive = [trainer._terms(data.batch(part), trainer._draw(part), None)["task"].item() for part in parts]
        assert abs(np.mean(naive) - right) > 1e-2


def test_the_order_of_a_batch_and_its_padding_are_of_no_account(data: SplitData) -> None:
    first, second = new_trainer(data), new_trainer(data)
    assert first.step([np.arange(CLIPS)]).terms == pytest.approx(second.step([np.arange(CLIPS)[::-1].copy()]).terms)
    assert_close(state(first), state(second), atol=1e-5)


def test_a_step_is_adamw_on_the_clipped_gradient(data: SplitData) -> None:
    """The first update of Adam moves each weight by the learning rate against its gradient's sign."""
    trainer = new_trainer(data, learning_rate=0.125, weight_decay=0.5, clip_norm=1e-3, warmup_epochs=1)
    before = copy.deepcopy(dict(trainer.model.named_parameters()))
    update = trainer.step([np.arange(CLIPS)])
    assert update.learning_rate == 0.125 / 4  # three updates of warm-up
    for key, parameter in trainer.model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        big = gradient.abs() > 1e-6  # against Adam's epsilon of 1e-8
        decayed = before[key] * (1 - update.learning_rate * 0.5)
        expected = decayed - update.learning_rate * gradient.sign()
        torch.testing.assert_close(parameter[big], expected[big], rtol=0, atol=5e-4)
    clipped = torch.stack([p.grad.norm() for p in trainer.model.parameters() if p.grad is not None]).norm()
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)
    assert update.gradient_norm > 0.1


def test_the_average_follows_every_update(data: SplitData) -> None:
    trainer = new_trainer(data, ema_decay=0.5)
    assert trainer.average is not None
    for expected in (1, 2):
        trainer.step([np.arange(CLIPS)])
        assert trainer.average.updates == trainer.updates == expected
    assert new_trainer(data).average is None


def test_every_given_modality_can_be_dropped_but_never_all(data: SplitData) -> None:
    trainer = new_trainer(data, modality_dropout=0.9)
    seen: list[Mapping[str, ModalitySequence]] = []
    trainer.model.head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    for _ in range(6):
        trainer.step([np.arange(CLIPS)])
    had = torch.from_numpy(data.present(np.arange(CLIPS)))
    present = torch.stack([torch.stack([inputs[key].present for key in ("audio", "text")], dim=1) for inputs in seen])
    assert present.any(dim=2).all()
    assert not (present & ~had).any()
    both = had.all(dim=1)
    assert not present[:, both, 0].all()
    assert not present[:, both, 1].all()


class TestUnimodalTerms:
    def test_a_modality_that_was_dropped_everywhere_has_no_term_to_learn_from(
        self, data: SplitData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = new_trainer(data)
        monkeypatch.setattr(trainer, "_draw", lambda clips: torch.tensor([[False, True]]).repeat(len(clips), 1))
        update = trainer.step([np.arange(CLIPS)])
        assert update.terms["unimodal_audio"] == 0.0
        assert update.terms["unimodal_text"] > 0.0
        gradients = {name: p.grad for name, p in trainer.model.named_parameters() if "predictors.audio" in name}
        assert gradients
        assert all(gradient is None or not gradient.any() for gradient in gradients.values())


class TestNotFinite:
    def test_the_weights_stay_and_the_place_is_told(self, data: SplitData) -> None:
        trainer = new_trainer(data)
        data.tables["text"].values[int(data.starts["text"][7])] = np.nan
        before = state(trainer)
        with pytest.raises(UsageError, match=r"task = nan.*the features of text are not, in the clip 7; extract"):
            trainer.step([index(0, 1), index(7, 3)])
        assert_close(state(trainer), before, atol=0)

    def test_a_gradient_that_overflows(self, data: SplitData, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer = new_trainer(data)
        before = state(trainer)
        fuse = trainer.model.head.fuse

        def steep(inputs: dict[str, ModalitySequence]) -> FusionOutput:
            output = fuse(inputs)
            slope = (output.prediction * 0).sum().sqrt()  # 0, with an infinite derivative at 0
            return FusionOutput(output.prediction, output.unimodal, {"own": slope}, output.weights)

        monkeypatch.setattr(trainer.model.head, "fuse", steep)
        with pytest.raises(
            UsageError, match=r"the gradient is not finite, although the loss is: first in the weights head"
        ):
            trainer.step([np.arange(CLIPS)])
        assert_close(state(trainer), before, atol=0)


def test_batches_are_cut_unasked_only_where_the_update_stays_the_same(data: SplitData) -> None:
    assert new_trainer(data).part_steps == CPU_PART_STEPS
    assert new_trainer(data, loss=LossConfig(regression="ccc")).part_steps is None
    assert new_trainer(data, loss=LossConfig(regression="ccc"), part_steps=3).part_steps == 3
    model = MultimodalModel(ModelConfig("self_mm", {"audio": 2, "text": 2}, 3))
    assert part_steps(model, TrainConfig(), CPU) is None
    model = MultimodalModel(ModelConfig("late", {"audio": 2, "text": 2}, 3))
    assert part_steps(model, TrainConfig(), torch.device("meta")) is None


class TestPrecision:
    @pytest.mark.parametrize("head", ["late", "mult", "self_mm", "tfn"])
    def test_bf16_computes_roughly_the_same_and_keeps_float32(self, data: SplitData, head: str) -> None:
        full, half = new_trainer(data, head), new_trainer(data, head, precision="bf16")
        first, second = full.step([np.arange(CLIPS)]), half.step([np.arange(CLIPS)])
        assert second.terms != first.terms
        assert second.terms == pytest.approx(first.terms, rel=0.05, abs=0.02)  # bf16 has 8 significant bits
        assert {p.dtype for p in half.model.parameters()} == {torch.float32}
        assert {p.grad.dtype for p in half.model.parameters() if p.grad is not None} == {torch.float32}

    def test_fp16_needs_cuda(self, data: SplitData) -> None:
        with pytest.raises(UsageError, match="precision fp16 needs a CUDA device, and this is cpu: use bf16"):
            new_trainer(data, precision="fp16")

    def test_an_overflow_of_fp16_is_left_to_the_scaler(self, data: SplitData, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer = new_trainer(data)
        overflow = Update({"task": 1.0}, math.inf, 0.01, CLIPS)
        with pytest.raises(UsageError):
            trainer._check(overflow, [np.arange(CLIPS)])
        monkeypatch.setattr(trainer.scaler, "is_enabled", lambda: True)
        monkeypatch.setattr(trainer.scaler, "get_scale", lambda: 1024.0)
        trainer._check(overflow, [np.arange(CLIPS)])
        monkeypatch.setattr(trainer.scaler, "get_scale", lambda: 0.5)
        with pytest.raises(UsageError):
            trainer._check(overflow, [np.arange(CLIPS)])

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_on_a_gpu(self, make_corpus: Any, make_table: Any, precision: str) -> None:
        random = np.random.default_rng(0)
        table = make_table("audio", [random.normal(size=(3, 2)) for _ in range(8)])
        corpus = make_corpus((SENTIMENT,), ["train"] * 8, [{"sentiment": float(i % 2)} for i in range(8)])
        device = torch.device("cuda")
        own = SplitData(corpus, {"audio": table}, "train", (SENTIMENT,), device=device)
        torch.manual_seed(0)
        model = MultimodalModel(ModelConfig("late", {"audio": 2}, 1, {"hidden_dim": 8})).to(device).train()
        config = TrainConfig(learning_rate=0.02, precision=precision)  # type: ignore[arg-type]
        objective = Objective((SENTIMENT,), config.loss, own.labels).to(device)
        trainer = Trainer(model, objective, own, config, device=device, updates_per_epoch=1)
        losses = [trainer.step([np.arange(8)]).terms["task"] for _ in range(40)]
        assert losses[-1] < losses[0]


def check_compiled(data: SplitData) -> None:
    """Lengths differ between the batches, so that one translation must do for all."""
    plain, compiled = new_trainer(data, "tfn"), new_trainer(data, "tfn", compile=True)
    for part in (index(0, 1, 2), index(3, 4, 5, 6), index(7, 8)):
        assert compiled.step([part]).terms == pytest.approx(plain.step([part]).terms, abs=1e-5)
    assert_close(state(compiled), state(plain), atol=1e-4)
    assert set(compiled.model.state_dict()) == set(plain.model.state_dict())


def test_a_head_that_is_traced_computes_the_same(data: SplitData, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in compilation, but for the C++ compiler, which takes minutes."""
    compile_ = torch.compile
    traced: list[object] = []

    def trace(head: Any, **keywords: Any) -> Any:
        traced.append(head)
        return compile_(head, backend="aot_eager", **keywords)

    monkeypatch.setattr(torch, "compile", trace)
    check_compiled(data)
    assert len(traced) == 1


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_compiled_head_computes_the_same(data: SplitData) -> None:
    """On the CPU it does as well; there the compiler takes minutes."""
    check_compiled(data)
