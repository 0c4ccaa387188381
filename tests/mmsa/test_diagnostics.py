from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fusion import FusionOutput
from mmsa.corpora.clip import Corpus
from mmsa.data import SplitData
from mmsa.diagnostics import DEAD, check_features, diagnose, explain_not_finite, overfitting
from mmsa.errors import UsageError
from mmsa.features import FeatureTable
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.tasks import Classification, MultiLabel, Regression, Task
from mmsa.training import Epoch, History

SENTIMENT = Regression("sentiment", -3, 3)
EMOTION = Classification("emotion", ("calm", "glad"))
MOODS = MultiLabel("moods", ("happy", "sad"))
CPU = torch.device("cpu")
CLIPS = 20
MakeData = Callable[..., SplitData]


@pytest.fixture
def make_data(make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> MakeData:
    """`(tasks)`: clip `i` has one step in each modality, `i / 10 - 1` in text and its square in audio."""

    def make(tasks: Sequence[Task] = (SENTIMENT,)) -> SplitData:
        values = np.arange(CLIPS) / 10 - 1
        tables = {
            "text": make_table("text", [np.full((1, 1), v) for v in values]),
            "audio": make_table("audio", [np.full((1, 1), v * v) for v in values]),
        }
        own: list[dict[str, Any]] = [
            {"sentiment": float(v), "emotion": EMOTION.classes[int(v > 0)], "moods": ("sad",) if v > 0 else ()}
            for v in values
        ]
        kept = [{task.name: labels[task.name] for task in tasks} for labels in own]
        return SplitData(make_corpus(tasks, ["valid"] * CLIPS, kept), tables, "valid", tasks)

    return make


class Formula(nn.Module):
    """A model that computes a formula of the mean step of each modality."""

    def __init__(self, formula: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def step_costs(self, modalities: Sequence[str]) -> np.ndarray:
        return np.ones(len(modalities), np.int64)

    def forward(self, inputs: Any) -> FusionOutput:
        rows = next(iter(inputs.values())).values.shape[0]
        text, audio = (
            inputs[key].zeroed().values.sum(dim=1) if key in inputs else torch.zeros(rows, 1)
            for key in ("text", "audio")
        )
        return FusionOutput(self.formula(text, audio))


def epochs(train: Sequence[float], valid: Sequence[float]) -> History:
    made = [Epoch(i + 1, t, v, {}, {"task": t}) for i, (t, v) in enumerate(zip(train, valid, strict=True))]
    return History(tuple(made), 1 + int(np.argmin(valid)))


FINE = epochs([1.0, 0.5], [1.0, 0.6])


def findings(make_data: MakeData, formula: Any, tasks: Sequence[Task] = (SENTIMENT,)) -> Any:
    return diagnose(Formula(formula), make_data(tasks), tasks, FINE, device=CPU)  # type: ignore[arg-type]


class TestDeadModality:
    def test_one_that_the_model_does_not_read(self, make_data: MakeData) -> None:
        found = findings(make_data, lambda text, audio: text)
        (warning,) = found.warnings
        assert warning.startswith("audio goes unused: giving every validation clip another clip's audio moves")
        assert found.measures["diagnostics/permuted_audio"] == 0.0
        assert found.measures["diagnostics/removed_audio"] == 0.0
        assert found.measures["diagnostics/loss_without_audio"] == 0.0

    def test_how_far_removing_text_moves_the_predictions(self, make_data: MakeData) -> None:
        """Predictions go to 0 from values with mean absolute value and spread that numpy computes."""
        found = findings(make_data, lambda text, audio: text)
        values = np.arange(CLIPS) / 10 - 1
        expected = np.abs(values).mean() / values.std()
        assert found.measures["diagnostics/removed_text"] == pytest.approx(expected, rel=1e-5)
        assert found.measures["diagnostics/permuted_text"] > 0.5
        assert found.measures["diagnostics/loss_without_text"] == pytest.approx(np.abs(values).mean() / 3, rel=1e-5)

    def test_a_constant_shift_is_no_use(self, make_data: MakeData) -> None:
        """Removing audio moves every prediction, but which clip's audio it is does not matter."""
        found = findings(make_data, lambda text, audio: text + 5 * (audio * 0 + 1) * (audio != 0).any())
        assert [warning.split()[0] for warning in found.warnings] == ["audio"]
        assert found.measures["diagnostics/removed_audio"] > 1

    def test_a_little_use_is_use(self, make_data: MakeData) -> None:
        assert findings(make_data, lambda text, audio: text + 10 * DEAD * audio).warnings == ()

    def test_of_several_outputs_the_one_that_moves_most_counts(self, make_data: MakeData) -> None:
        tasks = (SENTIMENT, EMOTION)
        found = findings(make_data, lambda text, audio: torch.cat([text, 0 * text, audio - 0.3], dim=1), tasks)
        assert found.warnings == ()

    def test_a_single_modality_is_not_asked(self, make_corpus: Any, make_table: Any) -> None:
        corpus = make_corpus((SENTIMENT,), ["valid"] * 2, [{"sentiment": 1.0}, {"sentiment": -1.0}])
        tables = {"text": make_table("text", [np.ones((1, 1)), np.zeros((1, 1))])}
        data = SplitData(corpus, tables, "valid", (SENTIMENT,))
        found = diagnose(Formula(lambda text, audio: text), data, (SENTIMENT,), FINE, device=CPU)  # type: ignore[arg-type]
        assert found.measures == {}


class TestConstantPrediction:
    def test_scores(self, make_data: MakeData) -> None:
        (warning,) = findings(make_data, lambda text, audio: 0.25 + 1e-4 * text).warnings
        assert warning.startswith("the prediction of sentiment is constant on the validation split: 0.25 on average")

    def test_classes(self, make_data: MakeData) -> None:
        """Logits vary and yet one class always wins."""
        (warning,) = findings(
            make_data, lambda text, audio: torch.cat([text + audio - 9, audio], dim=1), (EMOTION,)
        ).warnings
        assert warning.endswith("emotion is constant on the validation split: always glad, where there are 2 classes")

    def test_several_classes(self, make_data: MakeData) -> None:
        (warning,) = findings(make_data, lambda text, audio: torch.cat([text + 9, audio - 9], dim=1), (MOODS,)).warnings
        assert warning.endswith("moods is constant on the validation split: always happy")

    def test_not_where_the_labels_are(self, make_corpus: Any, make_table: Any) -> None:
        tables = {"text": make_table("text", [np.ones((1, 1))] * 3)}
        tasks = (SENTIMENT, EMOTION)
        labels = [{"sentiment": 1.0, "emotion": "calm"}] * 2 + [{}]
        data = SplitData(make_corpus(tasks, ["valid"] * 3, labels), tables, "valid", tasks)
        model = Formula(lambda text, audio: torch.cat([text, text, text], dim=1))
        assert diagnose(model, data, tasks, FINE, device=CPU).warnings == ()  # type: ignore[arg-type]


class TestOverfitting:
    def test_train_falls_while_valid_rises(self) -> None:
        (warning,) = overfitting(epochs([1.0, 0.8, 0.6, 0.4, 0.2], [1.0, 0.5, 0.6, 0.7, 0.8]))
        assert "from epoch 2 to 5 the validation loss rose from 0.5 to 0.8" in warning
        assert "the training loss fell from 0.8 to 0.2; kept was epoch 2" in warning

    @pytest.mark.parametrize(
        ("train", "valid"),
        [
            ([1.0, 0.8, 0.6, 0.4, 0.2], [1.0, 0.9, 0.8, 0.7, 0.6]),  # both fall
            ([1.0, 0.8, 0.9, 0.9, 0.9], [1.0, 0.5, 0.6, 0.7, 0.8]),  # both rise
            ([1.0, 0.8, 0.6, 0.4, 0.2], [1.0, 0.5, 0.51, 0.52, 0.51]),  # it wavers
            ([1.0, 0.8, 0.6, 0.4, 0.2], [1.0, 0.001, 0.002, 0.003, 0.004]),  # all is learned
            ([1.0, 0.8, 0.6], [1.0, 0.5, 0.9]),  # one epoch is none
        ],
        ids=["learning", "diverging", "wavering", "solved", "short"],
    )
    def test_anything_else_is_not(self, train: list[float], valid: list[float]) -> None:
        assert overfitting(epochs(train, valid)) == []


class TestNotFinite:
    @pytest.fixture
    def model(self) -> MultimodalModel:
        torch.manual_seed(0)
        return MultimodalModel(ModelConfig("late", {"audio": 1, "text": 1}, 1, {"hidden_dim": 4}))

    def test_features_name_modality_and_clips(self, make_data: MakeData) -> None:
        data = make_data()
        check_features(data, "valid")
        data.tables["audio"].values[[2, 5, 6, 9]] = np.inf
        data.tables["text"].values[3] = np.nan
        expected = (
            r"valid split are not finite.*audio of the clips 2, 5, 6 and 1 more \(audio\.made\); text of the clip 3 "
        )
        with pytest.raises(UsageError, match=expected):
            check_features(data, "valid")

    def test_outputs_name_the_modality_they_come_from(self, make_data: MakeData, model: MultimodalModel) -> None:
        """A weight of one encoder that is as large as numbers get: its outputs overflow, those of the other do not."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "predictors.audio" in name:
                    parameter.fill_(3e38)
        said = explain_not_finite(model, make_data(), [np.array([0, 10])], {"task": float("nan"), "own": 1.0})
        assert said.startswith(
            "the training loss is not finite (task = nan): the features are, the head's outputs are not"
        )
        assert "from audio already alone, in the clip" in said
        assert "lower learning_rate" in said

    def test_losses_are_left_when_nothing_else_is(self, make_data: MakeData, model: MultimodalModel) -> None:
        said = explain_not_finite(model, make_data(), [np.array([4]), np.array([7])], {"own": float("inf")})
        assert "(own = inf): features and outputs in evaluation mode are, so it begins in the losses" in said
        assert "the batch with the clips 4, 7." in said
        assert model.training

    def test_a_gradient_names_weights(self, make_data: MakeData, model: MultimodalModel) -> None:
        name, parameter = next(iter(model.named_parameters()))
        parameter.grad = torch.full_like(parameter, torch.inf)
        said = explain_not_finite(model, make_data(), [np.array([0])], {"task": 1.0})
        assert said.startswith(f"the gradient is not finite, although the loss is: first in the weight {name}. ")
