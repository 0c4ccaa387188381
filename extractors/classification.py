"""Pretrained classifiers of `transformers`: their labels, and the probabilities that they give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.errors import ToolError


def labels_of(config: Any, model: str) -> tuple[str, ...]:
    """The labels of a classifier, in the order of its outputs.

    Args:
        config: its configuration.
        model: its name, for the error.

    Raises:
        ToolError: fewer than two labels, or one of them twice: nothing that tells classes apart.
    """
    named = {int(index): str(label) for index, label in (getattr(config, "id2label", None) or {}).items()}
    labels = tuple(named[index] for index in sorted(named))
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ToolError(
            f"model={model!r}: its configuration names the labels {', '.join(labels) or 'none'}, but a classifier "
            "needs at least two, each with a name of its own: set id2label in its config.json"
        )
    return labels


class Classifier:
    """A classifier, loaded.

    Args:
        source: where it is.
        kind: the class of `transformers` that loads it, such as `"AutoModelForImageClassification"`.
        labels: from `labels_of`.
        device: `"auto"` (CUDA where there is one), or a torch device.

    Raises:
        ToolError: it cannot be had, is no classifier of this kind, or its checkpoint lacks weights, which would then be
            random.
    """

    def __init__(self, source: pretrained.Source, kind: str, labels: tuple[str, ...], device: str) -> None:
        import torch

        self._torch, self._name, self._labels = torch, source.name, labels
        self.device = pretrained.chosen_device(device)
        model = pretrained.load_weights(kind, source, advice="give a checkpoint that holds the whole classifier")
        self.model = model.to(self.device)
        self._independent = getattr(model.config, "problem_type", None) == "multi_label_classification"

    def probabilities(self, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        """Probabilities of the labels: `(N, L)`.

        The softmax of the logits; where the configuration's `problem_type` says that several labels may hold at once,
        the sigmoid of each, so that a row need not sum to 1.

        Args:
            inputs: tensors of `N` examples, by the names that the model's `forward` takes.

        Raises:
            ToolError: the model gives something else than one finite logit per label.
        """
        torch = self._torch
        with torch.inference_mode():
            logits = self.model(**{name: value.to(self.device) for name, value in inputs.items()}).logits.float()
        if logits.ndim != 2 or logits.shape[1] != len(self._labels) or not bool(torch.isfinite(logits).all()):
            raise ToolError(
                f"{self._name}: gives logits of shape {tuple(logits.shape)} for {len(self._labels)} labels, or some "
                "that are no finite numbers: its weights do not fit its config.json"
            )
        shares = logits.sigmoid() if self._independent else logits.softmax(dim=1)
        return np.asarray(shares.cpu().numpy(), np.float32)
