"""The files that make a bundle an MLflow model: `MLmodel` with signature, example and requirements."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsa.bundle import Bundle
from mmsa.serving.columns import INPUTS, PARAMS, output_columns
from mmsa.serving.settings import SETTINGS
from mmsa.tracking import quieten

if TYPE_CHECKING:
    import pandas as pd

LOADER = "mmsa.serving"
_RATE_HZ = 8000


def write_flavor(folder: Path, bundle: Bundle) -> None:
    """Write MLflow's files into a bundle's folder that holds nothing yet; the bundle itself comes beside them.

    MLflow then finds a model there whose loader is `mmsa.serving`: nothing is pickled, and no weight is there twice.

    Args:
        folder: made where it is not there yet.
        bundle: whose tasks and modalities the signature names.
    """
    # A lock file of the project that somebody trains in has nothing to do with the model's needs.
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    quieten()
    signature = ModelSignature(
        inputs=Schema([ColSpec(kind, name, required=False) for name, kind in INPUTS.items()]),
        outputs=Schema([ColSpec(kind, name, required=False) for name, kind in output_columns(bundle).items()]),
        params=ParamSchema([ParamSpec(name, "double", default) for name, default in PARAMS.items()]),
    )
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=LOADER,
        signature=signature,
        input_example=(input_example(bundle), dict(PARAMS)),
        pip_requirements=[_requirement(bundle.versions)],
        model_config=dict.fromkeys(SETTINGS),
        metadata={"corpus": bundle.corpus, "note": bundle.note},
    )


def _requirement(versions: Mapping[str, str]) -> str:
    version = versions.get("mmsa-framework", "")
    return f"mmsa-framework=={version}" if version[:1].isdigit() else "mmsa-framework"  # run without an install


def input_example(bundle: Bundle) -> pd.DataFrame:
    """A request of one row: half a second of a tone and a sentence, or for a model of pictures alone a small picture.

    It shows the form; what a model makes of it means nothing.
    """
    import pandas as pd

    alone = set(bundle.extractors) == {"vision"}
    row: dict[str, Any] = {"media": _picture() if alone else _tone(), "id": "example"}
    return pd.DataFrame([row if alone else row | {"text": "What a wonderful morning."}])


def _tone() -> bytes:
    seconds = np.arange(_RATE_HZ // 2) / _RATE_HZ
    samples = (8000 * np.sin(2 * np.pi * 220 * seconds)).astype("<i2")
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, _RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return made.getvalue()


def _picture() -> bytes:
    from PIL import Image

    made = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).save(made, "PNG")
    return made.getvalue()
