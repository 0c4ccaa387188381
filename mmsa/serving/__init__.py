"""Serving: a run's bundle is an MLflow model too, so that `mlflow models serve` and `mlflow.pyfunc` score with it.

The bundle's folder holds an `MLmodel` file that names this module as its loader (`mmsa.serving.flavor` writes it).
Nothing is pickled: loading reads what `mmsa score` reads. docs/serving.md says how requests and answers look.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsa.serving.served import ServedModel


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> ServedModel:
    """What MLflow calls to load the model; its name and arguments are MLflow's.

    Args:
        path: the bundle's folder.
        model_config: settings that the caller gave (see `mmsa.serving.settings`).

    Raises:
        UsageError: a setting is wrong, or the bundle cannot be used here.
    """
    from mmsa.bundle import load_bundle
    from mmsa.scoring import Scorer
    from mmsa.serving.served import ServedModel
    from mmsa.serving.settings import find_settings

    settings = find_settings(model_config or {})
    scorer = Scorer(load_bundle(Path(path)), trust_extractors=settings.trust_extractors)
    return ServedModel(scorer, settings)
