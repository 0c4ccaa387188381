"""`Classifier` on tiny classifiers that are built and saved here, against plain forward passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from extractors import ToolError
from extractors.classification import Classifier, labels_of
from extractors.pretrained import Source

KIND = "AutoModelForImageClassification"
LABELS = ("angry", "happy", "sad")
LOGITS = (0.0, 2.0, -1.0)


def load(folder: Path, labels: tuple[str, ...] = LABELS) -> Classifier:
    return Classifier(Source(str(folder), None, True), KIND, labels, "cpu")


@pytest.mark.parametrize("several", [False, True])
def test_probabilities_of_known_logits(save_classifier: Callable[..., Path], tmp_path: Path, several: bool) -> None:
    """Softmax, or a sigmoid of each where the configuration says that labels are independent."""
    folder = save_classifier("image", tmp_path / "m", LABELS, LOGITS, several=several)
    found = load(folder).probabilities({"pixel_values": torch.randn(2, 3, 32, 32)})
    raised = np.exp(LOGITS)
    expected = 1 / (1 + np.exp(-np.array(LOGITS))) if several else raised / raised.sum()
    assert found.shape == (2, 3)
    assert np.allclose(found, expected, atol=1e-6)


def test_labels_come_in_the_order_of_the_outputs() -> None:
    assert labels_of(SimpleNamespace(id2label={2: "c", 0: "a", 10: "d", 1: "b"}), "m") == ("a", "b", "c", "d")


@pytest.mark.parametrize("named", [{0: "one"}, {0: "a", 1: "a"}, None])
def test_labels_that_tell_nothing_apart(named: dict[int, str] | None) -> None:
    with pytest.raises(ToolError, match=r"model='m'.*needs at least two, each with a name of its own: set id2label"):
        labels_of(SimpleNamespace(id2label=named), "m")


def test_weights_that_would_be_random_are_refused(save_classifier: Callable[..., Path], tmp_path: Path) -> None:
    """As in checkpoints whose head has other names than transformers knows."""
    folder = save_classifier("image", tmp_path / "m", LABELS)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.output.weight"] = weights.pop("classifier.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ToolError, match=r"its weights lack classifier\.weight, which would be random"):
        load(folder)


def test_weights_of_another_size_are_refused(save_classifier: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_classifier("image", tmp_path / "m", LABELS)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": "angry", "1": "happy"}
    config["label2id"] = {"angry": 0, "happy": 1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ToolError, match=r"its weights do not fit its config\.json"):
        load(folder, LABELS[:2])


def test_a_pickle_is_not_loaded(save_classifier: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_classifier("image", tmp_path / "m", LABELS)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ToolError, match=r"the weights cannot be loaded from the folder.*pickle files are never loaded"):
        load(folder)


def test_outputs_that_are_no_numbers(save_classifier: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_classifier("image", tmp_path / "m", LABELS, (0.0, float("nan"), 0.0))
    with pytest.raises(ToolError, match=r"gives logits of shape \(1, 3\) for 3 labels, or some that are no finite"):
        load(folder).probabilities({"pixel_values": torch.zeros(1, 3, 32, 32)})
