"""Modality dropout: training with modalities taken away, around any head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence
from fusion.wrapper import HeadWrapper


class ModalityDropout(HeadWrapper):
    """Drops whole modalities of single clips while training; in eval mode it is the head itself.

    Neverova et al., "ModDrop: Adaptive Multi-modal Gesture Recognition", IEEE TPAMI 2016, section 3.3.

    The law, per clip with `n` present modalities and drop probabilities `p_m`: every present modality is dropped
    independently with probability `p_m`; if all of them were, one of the `n`, drawn evenly, is kept after all.
    So modality m stays with probability `1 - p_m + (product of all n p) / n`, a clip is never emptied, and a clip
    with one modality is never changed. `p = 1` for all means: exactly one modality, drawn evenly.

    Deviation: ModDrop feeds zeros; here the modality becomes missing, which every head masks out exactly. Outputs
    about a dropped modality (`unimodal`, `weights`) are therefore those of a missing one.

    Args:
        head: the head, or a wrapper around one.
        probability: of dropping a modality: one number, or one per modality (those not named are never dropped).

    Raises:
        ValueError: a probability outside [0, 1], or for a modality that the head does not have.
    """

    probabilities: Tensor

    def __init__(self, head: FusionHead | HeadWrapper, probability: float | Mapping[str, float] = 0.3) -> None:
        super().__init__(head)
        named = probability if isinstance(probability, Mapping) else dict.fromkeys(head.modalities, probability)
        unknown = sorted(set(named) - set(head.modalities))
        if unknown:
            raise ValueError(
                f"probability names {', '.join(unknown)}, but the head fuses {', '.join(head.modalities)}: "
                "name only those"
            )
        for key, value in named.items():
            if not 0 <= value <= 1:
                raise ValueError(f"the probability of dropping {key} must lie in [0, 1], not {value}")
        self.register_buffer(
            "probabilities", torch.tensor([float(named.get(key, 0.0)) for key in head.modalities]), persistent=False
        )

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> FusionOutput:
        """Predict; in training mode from a random part of each clip's modalities."""
        return super().forward(self.drop(inputs) if self.training else inputs)

    def drop(self, inputs: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """One random draw of the law above, from torch's global generator, whatever the mode.

        Args:
            inputs: sequences of one batch; a modality that the head does not know is passed on for it to name.

        Returns:
            The same sequences, dropped rows with an all-False mask; a modality not given stays not given.
        """
        known = {key: inputs[key] for key in self.modalities if key in inputs}
        if not known:
            return dict(inputs)
        columns = [self.modalities.index(key) for key in known]
        keep = self._keep(stack_present(known), self.probabilities[columns])
        dropped = {
            key: ModalitySequence(sequence.values, sequence.mask & keep[:, column, None])
            for column, (key, sequence) in enumerate(known.items())
        }
        return {**inputs, **dropped}

    def draw(self, present: Tensor) -> Tensor:
        """One random draw of the law above, for clips of which is only known what they have.

        Args:
            present: `(B, M)` bool, columns in the order of `modalities`.

        Returns:
            `(B, M)` bool: what stays.
        """
        return self._keep(present, self.probabilities)

    @staticmethod
    def _keep(present: Tensor, probabilities: Tensor) -> Tensor:
        """`(B, M)` bool: which of the present modalities stay."""
        keep = present & (torch.rand(present.shape, device=present.device) >= probabilities.to(present.device))
        # The largest of independent uniform numbers is any of them with equal probability.
        lots = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
        spared = torch.zeros_like(present).scatter(1, lots.argmax(dim=1, keepdim=True), True) & present
        return torch.where(keep.any(dim=1, keepdim=True), keep, spared)
