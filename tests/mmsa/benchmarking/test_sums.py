"""Every metric that is taken apart equals the one of `mmsa.metrics`, on all clips and on any resample of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsa.benchmarking.sums import decompose, metric_of
from mmsa.metrics import metric_names
from mmsa.tasks import Classification, MultiLabel, Regression, Task

TASKS: dict[str, Task] = {
    "mosi": Regression("sentiment", -3, 3, "mosi"),
    "sims": Regression("sentiment", -1, 1, "sims"),
    "plain": Regression("valence", 1, 5, "plain"),
    "classes": Classification("emotion", ("joy", "anger", "none", "never")),
}


def made(task: Task, seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that have something to do with the labels; some labels are zero, some are not there."""
    rng = np.random.default_rng(seed)
    if isinstance(task, Regression):
        labels = np.round(rng.uniform(task.low, task.high, count) * 2) / 2
        outputs = (labels + rng.normal(0, 0.6, count))[:, None]
    else:
        labels = rng.integers(0, 3, count).astype(float)  # the class "never" does not occur
        outputs = rng.normal(0, 1, (count, 4)) + 1.5 * np.eye(4)[labels.astype(int)]
    labels[rng.random(count) < 0.1] = np.nan
    return outputs.astype(np.float32), labels.astype(np.float32)


CASES = [(kind, name) for kind, task in TASKS.items() for name in metric_names(task)]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_sums_over_a_resample_give_the_metric_of_the_resample(kind: str, name: str) -> None:
    task = TASKS[kind]
    outputs, labels = made(task, 0)
    found = decompose(task, name, outputs, labels)
    if name == "f1_never":  # no clip has the class, so there is nothing to compute on all clips
        assert found is None
        assert np.isnan(metric_of(task, name, outputs, labels))
        return
    assert found is not None
    rng = np.random.default_rng(1)
    for _ in range(20):
        index = rng.integers(0, len(labels), len(labels))
        counts = np.bincount(index, minlength=len(labels)).astype(float)
        expected = metric_of(task, name, outputs[index], labels[index])
        assert float(found.finish(counts @ found.parts)) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", ["mae", "corr", "f1_non0", "acc_7", "acc_2_has0"])
def test_many_sums_at_once_are_each_alone(name: str) -> None:
    task = TASKS["mosi"]
    found = decompose(task, name, *made(task, 3))
    assert found is not None
    counts = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), 7).astype(float)
    together = found.finish(counts @ found.parts)
    assert together.shape == (7,)
    assert np.allclose(together, [float(found.finish(row @ found.parts)) for row in counts])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["corr", "ccc"]), st.sampled_from([1.0, 1e-3, 50.0]))
def test_moments_keep_their_precision(seed: int, name: str, scale: float) -> None:
    rng = np.random.default_rng(seed)
    task = Regression("x", 0, 2000, "plain")
    labels = (1000 + scale * rng.normal(size=30)).astype(np.float32)
    outputs = (labels + scale * rng.normal(size=30))[:, None].astype(np.float32)
    if np.ptp(labels) == 0 or np.ptp(outputs) == 0:
        return
    found = decompose(task, name, outputs, labels)
    expected = metric_of(task, name, outputs, labels)
    # Where it is not exact to 1e-6 it is not used.
    assert found is None or float(found.finish(found.parts.sum(axis=0))) == pytest.approx(expected, abs=1e-6)
    assert found is not None or scale < 1


def test_a_constant_prediction_has_no_correlation() -> None:
    task = TASKS["mosi"]
    labels = np.array([-1, 0, 2, 3], np.float32)
    found = decompose(task, "corr", np.full((4, 1), 0.5, np.float32), labels)
    assert found is not None
    assert float(found.finish(found.parts.sum(axis=0))) == 0.0


def test_nothing_is_defined_on_no_clip() -> None:
    for kind, name in CASES:
        found = decompose(TASKS[kind], name, *made(TASKS[kind], 0))
        if found is not None:
            assert np.isnan(found.finish(np.zeros(found.parts.shape[1]))), (kind, name)


def test_what_cannot_be_taken_apart_is_left_whole() -> None:
    task = MultiLabel("emotions", ("joy", "fear"))
    labels = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    assert decompose(task, "wa", labels - 0.5, labels) is None
    assert decompose(TASKS["mosi"], "nonesuch", *made(TASKS["mosi"], 0)) is None
