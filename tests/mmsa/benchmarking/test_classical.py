from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC

from mmsa.benchmarking import classical
from mmsa.benchmarking.classical import Classical, fit_classical, read_functionals
from mmsa.corpora.clip import Corpus
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.features import FeatureTable
from mmsa.tasks import Classification, MultiLabel, Regression, Task

REGRESSION = Regression("sentiment", -3, 3, "mosi")
EMOTION = Classification("emotion", ("low", "middle", "high", "never"))
COUNTS = {"train": 30, "valid": 12, "test": 9}


@pytest.fixture
def splits(make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> Callable[..., Any]:
    """`(tasks, label of a clip's level)` → the splits of clips whose audio and text tell their level with noise."""

    def make(tasks: tuple[Task, ...], label: Callable[[Task, float], Any]) -> dict[str, SplitData]:
        rng = np.random.default_rng(0)
        names = [split for split, count in COUNTS.items() for _ in range(count)]
        levels = np.array([float(i % 3 - 1) for i in range(len(names))])
        audio = [rng.normal(level, 0.5, (2 + i % 3, 2)) for i, level in enumerate(levels)]
        text = [rng.normal(-level, 0.5, (1 + i % 4, 3)) for i, level in enumerate(levels)]
        audio[4], text[-1] = np.zeros((0, 2)), np.zeros((0, 3))  # a training clip and a test clip lack one
        labels = [
            {task.name: own for task in tasks if (own := label(task, level)) is not None} for level in levels.tolist()
        ]
        labels[1] = {}
        corpus = make_corpus(tasks, names, labels)
        tables = {"audio": make_table("audio", audio), "text": make_table("text", text)}
        return {split: SplitData(corpus, tables, split, tasks) for split in COUNTS}  # type: ignore[arg-type]

    return make


def by_task(task: Task, level: float) -> Any:
    if isinstance(task, Regression):
        return 2 * level
    if isinstance(task, MultiLabel):
        return tuple(name for name, holds in (("glad", level > 0), ("loud", level >= 0)) if holds)
    return ("low", "middle", "high")[int(level) + 1]


def test_functionals_are_mean_and_deviation_of_the_real_steps(splits: Callable[..., Any]) -> None:
    data = splits((REGRESSION,), by_task)["train"]
    values, columns = read_functionals(data)
    assert (values.shape, columns) == ((30, 10), {"audio": slice(0, 4), "text": slice(4, 10)})
    for clip in (0, 7, 29):
        for key, own in columns.items():
            steps = data.tables[key].sequence(clip).values
            assert np.allclose(values[clip, own], [*steps.mean(axis=0), *steps.std(axis=0)], atol=1e-6)
    assert np.isnan(values[4, :4]).all()
    assert not np.isnan(values[4, 4:]).any()


def scaled(data: dict[str, SplitData]) -> tuple[np.ndarray, np.ndarray]:
    """Training and test functionals by scikit-learn's scaler; what is missing at the mean."""
    train, test = (read_functionals(data[split])[0] for split in ("train", "test"))
    scaler = StandardScaler().fit(train)
    return tuple(np.nan_to_num(scaler.transform(values)) for values in (train, test))  # type: ignore[return-value]


ONE = {"functionals": ["mean+std"], "costs": [3.0], "widths": [0.5]}


def test_regression_is_scikit_learns(splits: Callable[..., Any]) -> None:
    data = splits((REGRESSION,), by_task)
    train, test = scaled(data)
    labels = data["train"].labels["sentiment"].astype(float)
    known = ~np.isnan(labels)
    middle, spread = labels[known].mean(), labels[known].std()
    for kernel in ("linear", "rbf"):
        found = fit_classical(data["train"], data["valid"], (REGRESSION,), kernels=[kernel], **ONE)
        gamma = 0.5 / train.shape[1]
        # A linear kernel divided by the number of features is one whose cost is divided by it.
        machine = SVR(kernel=kernel, gamma=gamma, C=3.0 / (train.shape[1] if kernel == "linear" else 1), epsilon=0.1)
        machine.fit(train[known], (labels[known] - middle) / spread)
        expected = np.clip(machine.predict(test) * spread + middle, -3, 3)
        outputs = found.predict(read_functionals(data["test"])[0])["sentiment"]
        assert np.allclose(outputs[:, 0], expected, atol=0.02)


def test_classification_is_scikit_learns(splits: Callable[..., Any]) -> None:
    data = splits((EMOTION,), by_task)
    train, test = scaled(data)
    labels = data["train"].labels["emotion"]
    known = ~np.isnan(labels)
    found = fit_classical(data["train"], data["valid"], (EMOTION,), kernels=["rbf"], **ONE)
    machine = SVC(
        gamma=0.5 / train.shape[1],
        C=3.0,
        class_weight="balanced" if found.machines[0].choice.balanced else None,
        break_ties=True,
    )
    machine.fit(train[known], labels[known])
    outputs = found.predict(read_functionals(data["test"])[0])["emotion"]
    assert np.array_equal(outputs.argmax(axis=1), machine.predict(test))
    assert np.allclose(outputs[:, :3], machine.decision_function(test), atol=1e-3)
    assert (outputs[:, 3] < outputs[:, :3].min(axis=1) - 1).all()  # no training clip is "never"


def test_validation_chooses_the_best_of_all_that_is_tried(splits: Callable[..., Any]) -> None:
    data = splits((REGRESSION, EMOTION), by_task)
    grid: dict[str, Any] = {"kernels": ["linear"], "functionals": ["mean", "mean+std"]}
    costs = [0.01, 1.0, 100.0]
    valid, _ = read_functionals(data["valid"])
    truth = data["valid"].labels["sentiment"]

    def mae(fitted: Classical) -> float:
        return float(abs(fitted.predict(valid)["sentiment"][:, 0] - truth).mean())

    singles = [
        mae(
            fit_classical(
                data["train"], data["valid"], (REGRESSION,), kernels=["linear"], functionals=[kind], costs=[cost]
            )
        )
        for kind in grid["functionals"]
        for cost in costs
    ]
    chosen = fit_classical(data["train"], data["valid"], (REGRESSION, EMOTION), costs=costs, **grid)
    assert mae(chosen) == pytest.approx(min(singles))
    assert max(singles) > min(singles) + 0.01
    own = chosen.machines[0].choice
    assert singles[grid["functionals"].index(own.functionals) * 3 + costs.index(own.cost)] == pytest.approx(
        min(singles)
    )
    assert [machine.task.name for machine in chosen.machines] == ["sentiment", "emotion"]


def test_several_classes_at_once(splits: Callable[..., Any]) -> None:
    task = MultiLabel("signs", ("glad", "loud", "never"))
    data = splits((task,), by_task)
    found = fit_classical(data["train"], data["valid"], (task,), kernels=["linear"], **ONE)
    outputs = found.predict(read_functionals(data["test"])[0])["signs"]
    truth = data["test"].labels["signs"]
    assert outputs.shape == (9, 3)
    assert ((outputs > 0) == (truth > 0)).mean() > 0.9
    assert (outputs[:, 2] < 0).all()


def test_a_modality_that_is_left_out_lies_at_the_training_mean(splits: Callable[..., Any]) -> None:
    data = splits((REGRESSION,), by_task)
    found = fit_classical(data["train"], data["valid"], (REGRESSION,), kernels=["linear"], **ONE)
    values, columns = read_functionals(data["test"])
    moved = values.copy()
    moved[:, columns["audio"]] += 100
    without = found.predict(values, ["text"])["sentiment"]
    assert np.array_equal(found.predict(moved, ["text"])["sentiment"], without)
    assert not np.array_equal(found.predict(values)["sentiment"], without)
    at_mean = values.copy()
    at_mean[:, columns["audio"]] = found.mean[columns["audio"]]
    assert np.allclose(found.predict(at_mean)["sentiment"], without, atol=1e-6)


def test_many_clips_take_the_primal_way(splits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear machines against scikit-learn's; with as many landmarks as clips the Gaussian kernel is nearly exact."""
    data = splits((REGRESSION, EMOTION), by_task)
    values = read_functionals(data["test"])[0]
    exact = fit_classical(data["train"], data["valid"], (REGRESSION,), kernels=["rbf"], **ONE)
    monkeypatch.setattr(classical, "EXACT_CLIPS", 5)
    mapped = fit_classical(data["train"], data["valid"], (REGRESSION,), kernels=["rbf"], **ONE)
    assert np.abs(mapped.predict(values)["sentiment"] - exact.predict(values)["sentiment"]).mean() < 0.3
    again = fit_classical(data["train"], data["valid"], (REGRESSION,), kernels=["rbf"], **ONE)
    assert np.array_equal(again.predict(values)["sentiment"], mapped.predict(values)["sentiment"])

    found = fit_classical(data["train"], data["valid"], (EMOTION,), kernels=["linear"], **ONE)
    train, test = scaled(data)
    labels = data["train"].labels["emotion"]
    known = ~np.isnan(labels)
    weights = "balanced" if found.machines[0].choice.balanced else None
    machine = LinearSVC(C=3.0, class_weight=weights, dual=False).fit(train[known] / np.sqrt(10), labels[known])
    assert np.allclose(
        found.predict(values)["emotion"][:, :3], machine.decision_function(test / np.sqrt(10)), atol=1e-2
    )


def test_parameters_of_a_linear_machine_are_its_weights(splits: Callable[..., Any]) -> None:
    data = splits((REGRESSION,), by_task)
    found = fit_classical(data["train"], data["valid"], (REGRESSION,), kernels=["linear"], **ONE)
    assert found.machines[0].parameters == 10 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": ["poly"]}, r"kernels of the head 'svm' must be among linear, rbf, not \['poly'\]"),
        ({"kernels": []}, "kernels of the head"),
        ({"functionals": ["max"]}, "functionals of the head 'svm' must be among mean, mean"),
        ({"costs": [0.0]}, "costs of the head 'svm' must be numbers above 0"),
        ({"widths": ["wide"]}, "widths of the head"),
    ],
)
def test_wrong_options(splits: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    data = splits((REGRESSION,), by_task)
    with pytest.raises(UsageError, match=message):
        fit_classical(data["train"], data["valid"], (REGRESSION,), **options)


def test_no_label_at_all(splits: Callable[..., Any]) -> None:
    data = splits((REGRESSION,), lambda task, level: None)
    with pytest.raises(UsageError, match="no training clip has a label for sentiment"):
        fit_classical(data["train"], data["valid"], (REGRESSION,), kernels=["linear"], **ONE)
