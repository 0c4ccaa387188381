from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from extractors import Extraction, FeatureSequence
from fusion import ModalitySequence, shapley_values
from mmsa.bundle import Bundle, load_bundle
from mmsa.model import readable
from mmsa.scoring import predictor
from mmsa.scoring.predictor import Prediction, Predictor

if TYPE_CHECKING:
    from conftest import Trained


@pytest.fixture
def bundle(trained: Trained) -> Bundle:
    return load_bundle(trained.run.bundle)


def _sequence(values: np.ndarray, names: tuple[str, ...]) -> FeatureSequence:
    times = np.stack([np.arange(len(values)), np.arange(len(values)) + 1.0], axis=1).astype(np.float64)
    return FeatureSequence(values.astype(np.float32), times, names)


def _extractions(count: int, *, missing: int = 3) -> list[Extraction]:
    """Of all lengths; every `missing`-th without words, and one with nothing at all."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(count):
        audio = rng.uniform(0, 0.6, (0 if k == 1 else 1 + k % 5, 1))
        text = rng.integers(1, 9, (0 if k % missing == 1 else 1 + k % 4, 2)).astype(float)
        sequences = {"audio": _sequence(audio, ("loudness",)), "text": _sequence(text, ("length", "capitals"))}
        found.append(Extraction(sequences, {key: "gone" for key, seq in sequences.items() if not len(seq)}, 1.0))
    return found


def _numbers(found: Prediction) -> list[float]:
    numbers = [found.scores["sentiment"].value or 0.0, *found.scores["emotion"].probabilities.values()]
    for one in found.modalities.values():
        numbers += [one.weight or 0.0, *one.contribution.values()]
        numbers += [
            value for score in one.scores.values() for value in (score.value or 0.0, *score.probabilities.values())
        ]
    return numbers


def test_many_at_once_are_what_each_is_alone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _extractions(11)
    monkeypatch.setattr(predictor, "TOGETHER", 4)
    together = Predictor(bundle).predict(found)
    for one, alone in zip(together, (Predictor(bundle).predict([each])[0] for each in found), strict=True):
        if not one.scores:
            assert one == alone
            continue
        assert _numbers(one) == pytest.approx(_numbers(alone), abs=2e-6)


def test_numbers_are_those_of_the_model_asked_in_the_plain_way(bundle: Bundle) -> None:
    """Fused, alone and moved, each from a call of its own, without any sharing."""
    found = _extractions(8)[2]
    result = Predictor(bundle).predict([found])[0]
    inputs = {key: ModalitySequence.pad([torch.from_numpy(seq.values)]) for key, seq in found.sequences.items()}
    assert bundle.calibration is not None

    def read(prediction: torch.Tensor) -> torch.Tensor:
        assert bundle.calibration is not None
        return readable(bundle.tasks, bundle.calibration.apply(bundle.tasks, prediction))

    with torch.no_grad():
        output = bundle.model(inputs)
        moved = shapley_values(
            bundle.model.head,
            bundle.model.prepare(inputs),
            output=lambda one: read(one.prediction),
            baseline=torch.tensor(bundle.baseline),
        )
        fused = read(output.prediction)[0]
    assert list(result.scores["emotion"].probabilities.values()) == pytest.approx(fused[1:].tolist(), abs=1e-6)
    label = 1 + int(fused[1:].argmax())
    for key in inputs:
        own = result.modalities[key]
        with torch.no_grad():
            alone = read(
                output.unimodal[key] if key in output.unimodal else bundle.model({key: inputs[key]}).prediction
            )
        assert list(own.scores["emotion"].probabilities.values()) == pytest.approx(alone[0, 1:].tolist(), abs=1e-6)
        assert own.contribution["emotion"] == pytest.approx(float(moved[key][0, label]), abs=1e-6)
        assert own.weight == pytest.approx(float(output.weights[key][0]), abs=1e-6)


def test_an_interval_is_the_calibrations_around_the_value_within_the_range(bundle: Bundle) -> None:
    assert bundle.calibration is not None
    wide = replace(bundle.calibration, half_widths={"sentiment": 0.25})
    result = Predictor(replace(bundle, calibration=wide)).predict(_extractions(1))[0].scores["sentiment"]
    assert result.value is not None
    assert result.interval == pytest.approx((max(-1.0, result.value - 0.25), min(1.0, result.value + 0.25)), abs=1e-6)
    assert Predictor(replace(bundle, calibration=None)).predict(_extractions(1))[0].scores["sentiment"].interval is None


def test_where_nothing_is_there_is_no_score(bundle: Bundle) -> None:
    result = Predictor(bundle).predict(_extractions(2))[1]
    assert result.scores == {}
    assert {key: one.reason for key, one in result.modalities.items()} == {"audio": "gone", "text": "gone"}
