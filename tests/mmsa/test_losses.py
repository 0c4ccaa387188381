from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from fusion import FusionOutput
from mmsa.config import TrainConfig
from mmsa.data import Batch
from mmsa.errors import UsageError
from mmsa.loss_config import LossConfig
from mmsa.losses import Objective, balanced_weights, check_loss, discordance
from mmsa.metrics import concordance
from mmsa.model import ModelConfig, MultimodalModel, build_head, split_outputs
from mmsa.tasks import Classification, MultiLabel, Regression, Task
from mmsa.trainer import parameter_groups

SENTIMENT = Regression("sentiment", -3, 3)
EMOTION = Classification("emotion", ("calm", "glad", "cross"))
MOODS = MultiLabel("moods", ("happy", "sad"))
ALL = (SENTIMENT, EMOTION, MOODS)
NAN = math.nan


def made(clips: int, seed: int = 0, *, missing: float = 0.3) -> tuple[Tensor, dict[str, Tensor]]:
    """Random predictions `(B, 6)` and labels of all three tasks, some of which are missing."""
    random = np.random.default_rng(seed)
    moods = random.integers(0, 2, (clips, 2)).astype(np.float32)
    labels = {"sentiment": random.uniform(-3, 3, clips), "emotion": random.integers(0, 3, clips), "moods": moods}
    for label in (labels := {key: np.asarray(value, np.float32) for key, value in labels.items()}).values():
        label[random.random(clips) < missing] = NAN
    prediction = torch.from_numpy(random.normal(size=(clips, 6)).astype(np.float32))
    return prediction, {key: torch.from_numpy(label) for key, label in labels.items()}


def everyone(clips: int) -> Tensor:
    return torch.ones(clips, dtype=torch.bool)


def loss_of(task: Task, config: LossConfig, prediction: Tensor, label: Tensor, **given: Any) -> Tensor:
    """The loss of one task over all clips."""
    return Objective((task,), config, **given).task_loss(prediction, {task.name: label}, everyone(len(label)))


class TestTaskLoss:
    TASKS = (SENTIMENT, EMOTION)
    # sentiment, then the logits of three classes
    PREDICTION = torch.tensor(
        [[0.0, 0.0, 0.0, math.log(2)], [5.0, math.log(3), 0.0, 0.0], [-1.5, 9.0, 9.0, 9.0], [9.0, 9.0, 0.0, 9.0]]
    )
    LABELS: ClassVar = {
        "sentiment": torch.tensor([1.5, NAN, -3.0, 0.0]),
        "emotion": torch.tensor([2.0, 0.0, NAN, 1.0]),
    }
    KEEP = torch.tensor([True, True, True, False])

    def test_by_hand(self) -> None:
        # Half the range is 3. Clips 0 and 2 have a sentiment: |0 - 1.5| / 3 and |-1.5 + 3| / 3.
        sentiment = (0.5 + 0.5) / 2
        # Clips 0 and 1 have an emotion: softmax gives it 2 / 4 and 3 / 5.
        emotion = (math.log(2) + math.log(5 / 3)) / 2
        objective = Objective(self.TASKS)
        assert objective.task_loss(self.PREDICTION, self.LABELS, self.KEEP).item() == pytest.approx(
            (sentiment + emotion) / 2
        )
        assert objective.task_losses(self.PREDICTION, self.LABELS, self.KEEP).tolist() == pytest.approx(
            [sentiment, emotion]
        )

    def test_what_does_not_count_gets_no_gradient(self) -> None:
        prediction = self.PREDICTION.clone().requires_grad_()
        Objective(self.TASKS).task_loss(prediction, self.LABELS, self.KEEP).backward()  # type: ignore[no-untyped-call]
        assert prediction.grad is not None
        touched = prediction.grad != 0
        assert touched.tolist() == [[True] * 4, [False, True, True, True], [True, False, False, False], [False] * 4]

    @pytest.mark.parametrize("regression", ["l1", "mse", "huber", "ccc"])
    @pytest.mark.parametrize("classification", ["cross_entropy", "focal"])
    def test_when_nobody_counts_it_is_zero(self, regression: Any, classification: Any) -> None:
        prediction, labels = made(4)
        prediction.requires_grad_()
        config = LossConfig(regression=regression, classification=classification)
        loss = Objective(ALL, config).task_loss(prediction, labels, torch.zeros(4, dtype=torch.bool))
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == 0.0
        assert prediction.grad is not None
        assert not prediction.grad.any()

    @pytest.mark.parametrize("regression", ["l1", "mse", "huber", "ccc"])
    @settings(deadline=None, derandomize=True, max_examples=20)
    @given(factor=st.sampled_from([0.5, 2.0, 10.0]), seed=st.integers(0, 99))
    def test_the_unit_of_a_score_does_not_matter(self, regression: Any, factor: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        prediction, label = torch.randn(2, 5, generator=generator)
        config = LossConfig(regression=regression)
        losses = [
            loss_of(Regression("s", -k, k), config, k * prediction.unsqueeze(1), k * label) for k in (1.0, factor)
        ]
        torch.testing.assert_close(losses[0], losses[1])

    @settings(deadline=None, derandomize=True, max_examples=30)
    @given(seed=st.integers(0, 999), clips=st.integers(1, 9))
    def test_a_mean_over_tasks_of_means_over_labelled_clips(self, seed: int, clips: int) -> None:
        """Naively, clip by clip, in double precision."""
        prediction, labels = made(clips, seed)
        totals: dict[str, list[float]] = {task.name: [] for task in ALL}
        for row, values in enumerate(prediction.double().tolist()):
            sentiment, emotion = labels["sentiment"][row].item(), labels["emotion"][row].item()
            mood = labels["moods"][row].tolist()
            if sentiment == sentiment:
                totals["sentiment"].append(abs(values[0] - sentiment) / 3)
            if emotion == emotion:
                totals["emotion"].append(math.log(sum(math.exp(v - values[1 + int(emotion)]) for v in values[1:4])))
            if mood[0] == mood[0]:
                terms = [math.log1p(math.exp(-v if y else v)) for v, y in zip(values[4:], mood, strict=True)]
                totals["moods"].append(sum(terms) / 2)
        expected = sum(sum(own) / max(len(own), 1) for own in totals.values()) / 3
        found = Objective(ALL).task_loss(prediction, labels, everyone(clips))
        assert found.item() == pytest.approx(expected, rel=1e-5)


class TestRegression:
    PREDICTION, TARGET = torch.tensor([[0.0], [3.0], [-1.0]]), torch.tensor([1.5, -3.0, -1.2])

    def test_squared_error(self) -> None:
        expected = nn.functional.mse_loss(self.PREDICTION[:, 0], self.TARGET) / 9
        torch.testing.assert_close(
            loss_of(SENTIMENT, LossConfig(regression="mse"), self.PREDICTION, self.TARGET), expected
        )

    @pytest.mark.parametrize("delta", [0.1, 0.5, 3.0])
    def test_huber_is_torchs_own_in_halves_of_the_range(self, delta: float) -> None:
        config = LossConfig(regression="huber", huber_delta=delta)
        expected = nn.functional.huber_loss(self.PREDICTION[:, 0] / 3, self.TARGET / 3, delta=delta)
        torch.testing.assert_close(loss_of(SENTIMENT, config, self.PREDICTION, self.TARGET), expected)

    @settings(deadline=None, derandomize=True, max_examples=30)
    @given(seed=st.integers(0, 999), clips=st.integers(2, 9))
    def test_concordance_is_the_metric_over_the_known_clips(self, seed: int, clips: int) -> None:
        random = np.random.default_rng(seed)
        prediction, target = random.normal(size=(2, clips))
        known = random.random(clips) < 0.7
        if known.sum() < 2:
            known[:2] = True
        found = discordance(torch.from_numpy(prediction), torch.from_numpy(target), torch.from_numpy(known))
        assert found.item() == pytest.approx(1 - concordance(prediction[known], target[known]), abs=1e-9)

    def test_following_the_slope_of_concordance_leads_to_agreement(self) -> None:
        target = torch.tensor([-1.0, 0.0, 0.5, 2.0])
        prediction = torch.tensor([0.3, 0.1, -0.2, 0.0], requires_grad=True)
        for _ in range(400):
            (slope,) = torch.autograd.grad(discordance(prediction, target, everyone(4)), prediction)
            with torch.no_grad():
                prediction -= 0.5 * slope
        torch.testing.assert_close(prediction.detach(), target, atol=0.02, rtol=0)

    @pytest.mark.parametrize("prediction", [[0.5], [0.5, 0.5, 0.5]])
    def test_a_constant_has_no_concordance_and_no_nan(self, prediction: list[float]) -> None:
        """Neither where target and prediction are the same number, nor where they differ."""
        for target in (0.5, -1.0):
            values = torch.tensor(prediction, requires_grad=True)
            loss = discordance(values, torch.full_like(values, target), everyone(len(prediction)))
            loss.backward()  # type: ignore[no-untyped-call]
            assert loss.item() == 1.0
            assert values.grad is not None
            assert values.grad.isfinite().all()


class TestClassification:
    LOGITS = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, 0.5], [-0.5, 0.2, 0.1], [3.0, 0.0, 0.0]])
    TARGET = torch.tensor([2, 1, 0, 0])
    WEIGHTS: ClassVar = {"emotion": {"calm": 0.5, "cross": 3.0}}

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_a_focal_loss_without_focus_is_torchs_cross_entropy(self, smoothing: float, weighted: bool) -> None:
        """So are weights and smoothing of the plain loss."""
        weights = torch.tensor([0.5, 1.0, 3.0]) if weighted else None
        expected = nn.functional.cross_entropy(self.LOGITS, self.TARGET, weights, label_smoothing=smoothing)
        common: Any = {"label_smoothing": smoothing, "class_weights": self.WEIGHTS if weighted else "none"}
        for config in (LossConfig(**common), LossConfig(classification="focal", focal_gamma=0.0, **common)):
            torch.testing.assert_close(loss_of(EMOTION, config, self.LOGITS, self.TARGET.float()), expected)

    @pytest.mark.parametrize("gamma", [0.5, 2.0])
    def test_focal_by_its_formula(self, gamma: float) -> None:
        shares = [math.exp(row[k]) / sum(map(math.exp, row)) for row, k in zip(self.LOGITS.tolist(), self.TARGET)]  # noqa: B905
        expected = sum(-((1 - p) ** gamma) * math.log(p) for p in shares) / 4
        config = LossConfig(classification="focal", focal_gamma=gamma)
        assert loss_of(EMOTION, config, self.LOGITS, self.TARGET.float()).item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("task", [EMOTION, MOODS])
    @pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
    def test_focal_stays_finite_where_the_model_is_certain(self, task: Task, gamma: float) -> None:
        logits = torch.full((2, task.output_dim), -200.0)
        logits[:, 0] = 200.0
        logits.requires_grad_()
        label = torch.tensor([0.0, 1.0]) if task == EMOTION else torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        loss = loss_of(task, LossConfig(classification="focal", focal_gamma=gamma), logits, label)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()

    def test_a_batch_of_clips_without_weight_is_zero(self) -> None:
        config = LossConfig(class_weights={"emotion": {"calm": 0.0}})
        assert loss_of(EMOTION, config, self.LOGITS[2:], torch.zeros(2)).item() == 0.0


class TestMultiLabel:
    LOGITS = torch.tensor([[0.3, -1.0], [2.0, 0.5], [-0.5, 0.0]])
    TARGET = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_it_is_torchs_binary_cross_entropy(self, smoothing: float) -> None:
        given = LossConfig(class_weights={"moods": {"sad": 4.0}}, label_smoothing=smoothing)
        target = self.TARGET * (1 - smoothing) + (1 - self.TARGET) * 0 + smoothing / 2
        expected = nn.functional.binary_cross_entropy_with_logits(
            self.LOGITS, target, pos_weight=torch.tensor([1.0, 4.0])
        )
        torch.testing.assert_close(loss_of(MOODS, given, self.LOGITS, self.TARGET), expected)

    def test_focal_by_its_formula(self) -> None:
        """Lin et al., eq. 5 without α: -(1 - p_t)^γ log p_t, with p_t the probability of what is true."""
        terms = []
        for logits, targets in zip(self.LOGITS.tolist(), self.TARGET.tolist(), strict=True):
            for z, y in zip(logits, targets, strict=True):
                right = 1 / (1 + math.exp(-z if y else z))
                terms.append(-((1 - right) ** 2.0) * math.log(right))
        config = LossConfig(classification="focal")
        assert loss_of(MOODS, config, self.LOGITS, self.TARGET).item() == pytest.approx(sum(terms) / 6, rel=1e-5)


class TestBalance:
    def test_classes_as_scikit_learn_has_it(self) -> None:
        label = np.array([0, 0, 0, 0, 0, 1, 2, 2, NAN], np.float32)
        expected = compute_class_weight("balanced", classes=np.arange(3), y=label[:-1].astype(int))
        np.testing.assert_allclose(balanced_weights(EMOTION, label), expected, rtol=1e-6)

    def test_a_class_without_clips_weighs_one_and_is_not_counted(self) -> None:
        # Two classes occur: 4 / (2 · 3) and 4 / (2 · 1).
        np.testing.assert_allclose(balanced_weights(EMOTION, np.array([0, 0, 0, 2.0])), [2 / 3, 1.0, 2.0])

    def test_several_classes_at_once(self) -> None:
        task = MultiLabel("moods", ("a", "b", "always", "never"))
        label = np.array([[1, 0, 1, 0], [0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [NAN] * 4])
        np.testing.assert_allclose(balanced_weights(task, label), [3.0, 1.0, 1.0, 1.0])

    @settings(deadline=None, derandomize=True, max_examples=30)
    @given(label=st.lists(st.integers(0, 2), min_size=1, max_size=30))
    def test_every_class_that_occurs_counts_alike(self, label: list[int]) -> None:
        weights = balanced_weights(EMOTION, np.array(label, np.float32))
        totals = [weights[label].astype(float)[np.array(label) == key].sum() for key in sorted(set(label))]
        np.testing.assert_allclose(totals, len(label) / len(totals), rtol=1e-5)

    def test_they_come_from_the_labels_that_are_given(self) -> None:
        train = {"emotion": np.array([0, 0, 0, 1, 2, 2], np.float32)}
        config = LossConfig(class_weights="balanced")
        logits, label = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
        expected = nn.functional.cross_entropy(logits, label, torch.tensor([2 / 3, 2.0, 1.0]))
        torch.testing.assert_close(loss_of(EMOTION, config, logits, label.float(), train_labels=train), expected)

    def test_without_labels_nothing_can_be_balanced(self) -> None:
        with pytest.raises(UsageError, match="counted on the training split: give its labels"):
            Objective((EMOTION,), LossConfig(class_weights="balanced"))


class TestTaskWeights:
    PREDICTION, LABELS = made(12)

    def test_fixed_ones_are_proportions(self) -> None:
        objective = Objective(ALL, LossConfig(task_weights={"sentiment": 3.0, "moods": 0.0}))
        one, two, _ = objective.task_losses(self.PREDICTION, self.LABELS, everyone(12)).tolist()
        found = objective.task_loss(self.PREDICTION, self.LABELS, everyone(12)).item()
        assert found == pytest.approx((3 * one + two) / 4)

    def test_learned_ones_start_as_equal_ones(self) -> None:
        learned = Objective(ALL, LossConfig(task_weights="learned"))
        terms = terms_of(learned, self.PREDICTION, self.LABELS)
        assert terms["task"].item() == pytest.approx(terms_of(Objective(ALL), self.PREDICTION, self.LABELS)["task"])
        assert terms["learned_weights"].item() == pytest.approx(0.0, abs=1e-6)
        assert learned.learned_weights() == {"sentiment": 1.0, "emotion": 1.0, "moods": 1.0}
        assert Objective(ALL).learned_weights() == {}

    def test_learned_ones_by_hand(self) -> None:
        objective = Objective(ALL, LossConfig(regression="mse", task_weights="learned"))
        losses = objective.task_losses(self.PREDICTION, self.LABELS, everyone(12)).tolist()
        assert objective.log_variances is not None
        with torch.no_grad():
            objective.log_variances.copy_(torch.tensor([0.4, -0.2, 1.0]))
        terms = terms_of(objective, self.PREDICTION, self.LABELS)
        expected = math.exp(-0.4) / 2 * losses[0] + 0.2 + math.exp(0.2) * losses[1] - 0.1
        expected += math.exp(-1) * losses[2] + 0.5
        assert sum(term.item() for term in terms.values()) == pytest.approx(expected / 3, rel=1e-5)
        assert terms["task"].item() == pytest.approx(sum(losses) / 3, rel=1e-5)
        assert objective.learned_weights() == pytest.approx(
            {"sentiment": math.exp(-0.4) / 2, "emotion": math.exp(0.2), "moods": math.exp(-1)}
        )

    @pytest.mark.parametrize("regression", ["l1", "mse"])
    def test_learned_noise_is_the_most_likely_one(self, regression: Any) -> None:
        """A Gaussian's variance is the mean squared error, a Laplacian's scale the mean absolute one."""
        objective = Objective((SENTIMENT, EMOTION), LossConfig(regression=regression, task_weights="learned"))
        loss = objective.task_losses(self.PREDICTION, self.LABELS, everyone(12))[0].item()
        assert objective.log_variances is not None
        with torch.no_grad():
            objective.log_variances[0] = math.log(loss) * (1 if regression == "mse" else 2)
        total = torch.stack(list(terms_of(objective, self.PREDICTION, self.LABELS).values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        assert objective.log_variances.grad is not None
        assert objective.log_variances.grad[0].item() == pytest.approx(0.0, abs=1e-6)
        assert objective.log_variances.grad[1].item() != pytest.approx(0.0, abs=1e-2)

    def test_selection_does_not_move_with_learned_weights(self) -> None:
        objective = Objective(ALL, LossConfig(task_weights="learned"))
        before = objective.task_loss(self.PREDICTION, self.LABELS, everyone(12)).item()
        assert objective.log_variances is not None
        with torch.no_grad():
            objective.log_variances.fill_(2.0)
        assert objective.task_loss(self.PREDICTION, self.LABELS, everyone(12)).item() == before


def test_the_optimiser_learns_task_weights_without_decay() -> None:
    model = MultimodalModel(ModelConfig("early", {"text": 2}, 6, {"hidden_dim": 4}))
    learned, fixed = Objective(ALL, LossConfig(task_weights="learned")), Objective(ALL)
    groups = parameter_groups(model, learned, TrainConfig())
    assert [id(p) for p in groups[-1]["params"]] == [id(learned.log_variances)]
    assert groups[-1]["weight_decay"] == 0.0
    assert not any(p is learned.log_variances for group in groups[:-1] for p in group["params"])
    assert len(parameter_groups(model, fixed, TrainConfig())) == len(groups) - 1


class Asking(nn.Module):
    """A head that asks for a loss and counts how often."""

    asked = 0

    def target_losses(self, output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        del target, index
        self.asked += 1
        return {"aimed": output.prediction[:, 0].mean()}


def batch_of(labels: Mapping[str, Tensor], rows: slice = slice(None)) -> Batch:
    own = {key: label[rows] for key, label in labels.items()}
    return Batch({}, own, torch.arange(len(next(iter(own.values())))))


def terms_of(objective: Objective, prediction: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    head = build_head(ModelConfig("early", {"text": 2}, prediction.shape[1], {"hidden_dim": 4}))
    return objective.terms(head, FusionOutput(prediction), batch_of(labels), {})


class TestTerms:
    PREDICTION, LABELS = made(10, 3)

    def output(self, rows: slice = slice(None)) -> tuple[FusionOutput, dict[str, Tensor]]:
        """What a head with unimodal predictions and a loss of its own says; text is missing in some clips."""
        text = torch.arange(10) % 3 > 0
        unimodal = {"audio": self.PREDICTION.flip(0)[rows], "text": self.PREDICTION.roll(1, 0)[rows]}
        own = {"asked": self.PREDICTION[rows].square().mean()}
        present = {"audio": everyone(10)[rows], "text": text[rows]}
        return FusionOutput(self.PREDICTION[rows].clone().requires_grad_(), unimodal=unimodal, losses=own), present

    def terms(self, config: LossConfig, head: Any = None) -> dict[str, Tensor]:
        output, present = self.output()
        asked: Any = head or Asking()
        return Objective(ALL, config).terms(asked, output, batch_of(self.LABELS), present)

    def test_each_stands_under_its_name(self) -> None:
        terms = self.terms(LossConfig())
        assert list(terms) == ["task", "unimodal_audio", "unimodal_text", "asked", "aimed"]
        assert terms["asked"].item() == pytest.approx(self.PREDICTION.square().mean().item())
        assert terms["aimed"].item() == pytest.approx(self.PREDICTION[:, 0].mean().item())

    def test_the_unimodal_weight_is_shared_and_clips_without_the_modality_do_not_count(self) -> None:
        terms, objective = self.terms(LossConfig(unimodal_weight=0.5)), Objective(ALL)
        output, present = self.output()
        for key in ("audio", "text"):
            expected = 0.25 * objective.task_loss(output.unimodal[key], self.LABELS, present[key])
            assert terms[f"unimodal_{key}"].item() == pytest.approx(expected.item())
            less = [row for row in range(10) if present[key][row]]
            kept = {name: label[less] for name, label in self.LABELS.items()}
            naive = 0.25 * objective.task_loss(output.unimodal[key][less], kept, everyone(len(less)))
            assert terms[f"unimodal_{key}"].item() == pytest.approx(naive.item())
        assert not {"unimodal_audio", "unimodal_text"} & set(self.terms(LossConfig(unimodal_weight=0.0)))

    def test_what_the_head_asks_for_is_weighed_as_one(self) -> None:
        plain, weighed = self.terms(LossConfig()), self.terms(LossConfig(head_weight=0.1))
        for key, factor in (("task", 1.0), ("unimodal_text", 1.0), ("asked", 0.1), ("aimed", 0.1)):
            assert weighed[key].item() == pytest.approx(factor * plain[key].item(), rel=1e-5)
        head = Asking()
        assert set(self.terms(LossConfig(head_weight=0.0), head)) == {"task", "unimodal_audio", "unimodal_text"}
        assert head.asked == 0

    def test_heads_see_targets_in_the_layout_of_predictions(self) -> None:
        seen: list[Tensor] = []

        class Looking(Asking):
            def target_losses(self, output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
                seen.append(target)
                return {}

        self.terms(LossConfig(), Looking())
        parts = split_outputs(ALL, seen[0])
        torch.testing.assert_close(parts["sentiment"][:, 0], self.LABELS["sentiment"], equal_nan=True)
        torch.testing.assert_close(parts["moods"], self.LABELS["moods"], equal_nan=True)
        torch.testing.assert_close(
            parts["emotion"].argmax(1)[~parts["emotion"].isnan().any(1)].float(),
            self.LABELS["emotion"][~self.LABELS["emotion"].isnan()],
        )

    @pytest.mark.parametrize(
        "config",
        [
            LossConfig(),
            LossConfig(regression="mse", class_weights={"emotion": {"calm": 4.0}}, task_weights={"moods": 2.0}),
            LossConfig(regression="huber", classification="focal", label_smoothing=0.1, task_weights="learned"),
        ],
        ids=["default", "weighted", "learned"],
    )
    @pytest.mark.parametrize("cuts", [(4, 10), (1, 2, 9, 10), (10,)])
    def test_the_parts_of_a_batch_add_up_to_the_whole(self, config: LossConfig, cuts: tuple[int, ...]) -> None:
        """Unequal parts, in which labels and modalities are missing unequally; gradients as well."""
        objective = Objective(ALL, config)
        if objective.log_variances is not None:
            with torch.no_grad():
                objective.log_variances.copy_(torch.tensor([0.5, -0.3, 0.1]))
        head = build_head(ModelConfig("early", {"text": 2}, 6, {"hidden_dim": 4}))
        whole, present = self.output()
        expected = objective.terms(head, whole, batch_of(self.LABELS), present)
        slope = gradient(objective, whole, expected)
        rows = [slice(start, end) for start, end in zip((0, *cuts), cuts, strict=False)]
        parts = [(self.output(own), batch_of(self.LABELS, own)) for own in rows]
        totals: dict[str, Tensor] = {}
        for (_, seen), batch in parts:
            for key, value in objective.totals(batch.labels, seen).items():
                totals[key] = totals.get(key, torch.zeros(())) + value
        found = [objective.terms(head, output, batch, seen, totals) for (output, seen), batch in parts]
        for key, value in expected.items():
            assert sum(own[key].item() for own in found) == pytest.approx(value.item(), rel=1e-4, abs=1e-6), key
        slopes = [gradient(objective, output, own) for ((output, _), _), own in zip(parts, found, strict=True)]
        torch.testing.assert_close(torch.cat([own[0] for own in slopes]), slope[0])
        torch.testing.assert_close(torch.stack([own[1] for own in slopes]).sum(0), slope[1])

    def test_concordance_of_parts_is_weighed_by_clips(self) -> None:
        objective = Objective((SENTIMENT,), LossConfig(regression="ccc"))
        labels = {"sentiment": self.LABELS["sentiment"].nan_to_num(0.5)}
        rows = (slice(0, 4), slice(4, 10))
        own = [
            discordance(self.PREDICTION[part, 0], labels["sentiment"][part], everyone(part.stop - part.start)).item()
            for part in rows
        ]
        totals = {"task": torch.tensor([10.0]), "clips": torch.tensor(10)}
        head: Any = Asking()
        found = [
            objective.terms(head, FusionOutput(self.PREDICTION[part, :1]), batch_of(labels, part), {}, totals)["task"]
            for part in rows
        ]
        assert sum(part.item() for part in found) == pytest.approx(0.4 * own[0] + 0.6 * own[1])


def gradient(objective: Objective, output: FusionOutput, terms: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Of the sum of the terms, by the predictions and by the learned weights."""
    objective.zero_grad()
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert output.prediction.grad is not None
    learned = objective.log_variances
    return output.prediction.grad, torch.zeros(3) if learned is None or learned.grad is None else learned.grad.clone()


class TestCheck:
    @pytest.mark.parametrize(
        ("config", "tasks", "message"),
        [
            (LossConfig(regression="mse"), (EMOTION, MOODS), "loss.regression is mse, but no task predicts a number"),
            (LossConfig(classification="focal"), (SENTIMENT,), "loss.classification is set, but no task predicts"),
            (LossConfig(class_weights="balanced"), (SENTIMENT,), "loss.class_weights is set, but no task predicts"),
            (LossConfig(label_smoothing=0.1), (SENTIMENT,), "loss.label_smoothing is set, but no task predicts"),
            (LossConfig(task_weights="learned"), (EMOTION,), "weighs tasks against each other, but there is one: emot"),
            (LossConfig(task_weights={"emotoin": 2.0}), ALL, "no task, for loss.task_weights, 'emotoin'. Did you mean"),
            (LossConfig(task_weights={"moods": 1.0}), (EMOTION,), "no task, for loss.task_weights, 'moods'"),
            (LossConfig(task_weights={"emotion": 0.0, "moods": 0.0}), (EMOTION, MOODS), "leaves no task that counts"),
            (
                LossConfig(class_weights={"sentiment": {}}),
                ALL,
                "no task with classes, for loss.class_weights, 'sentiment'",
            ),
            (LossConfig(class_weights={"emotion": {"gald": 2.0}}), ALL, "'gald'. Did you mean 'glad'?"),
        ],
    )
    def test_what_can_have_no_effect_is_refused(
        self, config: LossConfig, tasks: tuple[Task, ...], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            check_loss(config, tasks)
        with pytest.raises(UsageError, match=message):
            Objective(tasks, config)

    def test_what_has_an_effect_is_not(self) -> None:
        check_loss(LossConfig(regression="ccc", class_weights={"moods": {"sad": 2}}, label_smoothing=0.1), ALL)
        check_loss(LossConfig(task_weights={"emotion": 2.0}), (EMOTION,))
        check_loss(LossConfig(), (SENTIMENT,))
