"""`FusionOutput`: what every head returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FusionOutput:
    """Predictions of a batch and what the head knows about them.

    Attributes:
        prediction: `(B, O)`: scores for regression, logits for classification.
        unimodal: per modality `(B, O)`, in the units of `prediction`, where the head predicts from one modality
            alone; zero for clips in which the modality is missing.
        losses: named scalars the head asks to be added to the training loss, already weighted among themselves.
            They need no label; objectives that do are in `FusionHead.target_losses`.
        weights: per modality `(B,)` in [0, 1], summing to 1 over modalities: how much each one counted, where
            the head knows; 0 for a missing modality.
        representations: named `(B, H)` vectors that objectives outside the head may read: one per modality by
            its name, and `"fusion"`.
    """

    prediction: Tensor
    unimodal: dict[str, Tensor] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    representations: dict[str, Tensor] = field(default_factory=dict)


torch.export.register_dataclass(FusionOutput, serialized_type_name="fusion.FusionOutput")
