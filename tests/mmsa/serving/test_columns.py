from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mmsa.bundle import load_bundle
from mmsa.serving.columns import ABOUT, output_columns
from mmsa.tasks import Classification, MultiLabel, Regression

if TYPE_CHECKING:
    from conftest import Trained


def test_every_task_and_modality_has_its_columns(trained: Trained) -> None:
    tasks = (Regression("valence", -1, 1), Classification("mood", ("sad", "glad")), MultiLabel("felt", ("joy", "fear")))
    columns = output_columns(replace(load_bundle(trained.run.bundle), tasks=tasks))
    expected = {
        "valence": "double",
        "valence.smoothed": "double",
        "valence.low": "double",
        "valence.high": "double",
        "mood": "string",
        "mood.smoothed": "string",
        "mood.sad": "double",
        "mood.glad": "double",
        "felt": "string",
        "felt.smoothed": "string",
        "felt.joy": "double",
        "felt.fear": "double",
    }
    for key in ("audio", "text"):
        expected |= dict.fromkeys([f"{key}.steps", f"{key}.weight"], "double")
        expected |= {f"{key}.moved.{task}": "double" for task in ("valence", "mood", "felt")}
    assert columns == {**ABOUT, **expected}
