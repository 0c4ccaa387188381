from __future__ import annotations

import json

import numpy as np
import pytest

from mmsa.robustness.curves import MISSING, Curve, Point, missing_curve
from mmsa.robustness.missing import thin_out
from mmsa.robustness.noise import NOISES

MODALITIES = ("audio", "text")
SUBSETS = [("audio",), ("text",), MODALITIES]
TRUTH = np.linspace(-1, 1, 50)[:, None]
ERRORS = {("audio",): 0.5, ("text",): 0.25, MODALITIES: 0.0}
FOUND = {s: {"t": (TRUTH + ERRORS[s]).astype(np.float32)} for s in SUBSETS}
"""A model that errs by so much from each subset."""


def measure(outputs: object) -> dict[str, float]:
    return {"t.mae": float(np.abs(outputs["t"] - TRUTH).mean())}  # type: ignore[index]


def test_the_curve_mixes_what_the_subsets_say() -> None:
    present = np.ones((50, 2), bool)
    curve = missing_curve(FOUND, MODALITIES, present, measure, seed=0, repeats=3, rates=(0.0, 0.4, 1.0))
    whole, half, least = curve.points
    assert (whole.level, half.level, least.level) == (0.0, 0.4, 1.0)
    assert whole.metrics["t.mae"] == pytest.approx(0, abs=1e-6)
    expected = []
    for repeat in range(3):
        kept = thin_out(present, 0.4, seed=0, repeat=repeat).kept
        errors = [ERRORS[tuple(m for m, has in zip(MODALITIES, row, strict=True) if has)] for row in kept]
        expected.append(np.mean(errors))
    assert half.metrics["t.mae"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert half.spread["t.mae"] == pytest.approx(np.std(expected, ddof=1), abs=1e-6)
    assert least.realised == 0.5  # one of two always stays
    assert 0.25 < least.metrics["t.mae"] < 0.5


def test_one_repeat_has_no_spread_and_clips_that_lack_a_modality_no_choice() -> None:
    present = np.zeros((50, 2), bool)
    present[:, 1] = True
    curve = missing_curve(FOUND, MODALITIES, present, measure, seed=0, repeats=1, rates=(1.0,))
    (point,) = curve.points
    assert point.metrics["t.mae"] == pytest.approx(0.25, abs=1e-6)
    assert (point.realised, point.spread) == (0.0, {})


def test_a_metric_that_some_draw_lacks_is_not_averaged() -> None:
    count = iter(range(100))
    curve = missing_curve(
        FOUND,
        MODALITIES,
        np.ones((50, 2), bool),
        lambda outputs: {**measure(outputs), **({"t.corr": 1.0} if next(count) else {})},
        seed=0,
        repeats=2,
        rates=(0.5, 0.7),
    )
    assert [set(point.metrics) for point in curve.points] == [{"t.mae"}, {"t.mae", "t.corr"}]


def test_curves_are_plain_json() -> None:
    point = Point(10.0, {"t.mae": 0.5}, alone={"t.mae": 0.7}, without=("a", "b"))
    curve = Curve(NOISES["audio"], (point,), {"t.mae": 0.6}, ("a",))
    plain = json.loads(json.dumps(curve.to_dict()))
    assert plain["noise"] == "audio"
    assert plain["modality"] == "audio"
    assert plain["points"][0] == {
        "level": 10.0,
        "metrics": {"t.mae": 0.5},
        "spread": {},
        "alone": {"t.mae": 0.7},
        "realised": None,
        "without": ["a", "b"],
    }
    assert (plain["floor"], plain["lacking"]) == ({"t.mae": 0.6}, ["a"])
    assert Curve(MISSING, (point,)).to_dict()["modality"] is None
