"""MCTN: a joint representation learned by translating one modality into the others and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.encoders import UnimodalEncoder, build_encoder
from fusion.grid import common_grid
from fusion.head import FusionHead, stack_present
from fusion.objectives import reconstruction_loss
from fusion.output import FusionOutput
from fusion.pooling import masked_mean
from fusion.primary import choose_primary
from fusion.sequence import ModalitySequence


class TranslationDecoder(nn.Module):
    """Recurrent decoder with attention over the encoder's states.

    From `s_0 = tanh(W_0 mean(memory))` and `y_0 = 0`, step by step: `c = softmax(s W memory^T) memory`,
    `s = GRU([embed(y), c], s)`, `y = readout(s)`. It reads its own output, never the true target, so training is
    what the translation would be without a target.

    Args:
        hidden_dim: size `H` of states and memory.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.start = nn.Linear(hidden_dim, hidden_dim)
        self.query = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.cell = nn.GRUCell(2 * hidden_dim, hidden_dim)

    def forward(self, memory: Tensor, embed: nn.Module, readout: nn.Module) -> Tensor:
        """Translate.

        Args:
            memory: `(B, G, H)` encoder states.
            embed: from target features to `H`.
            readout: from `H` to target features.

        Returns:
            `(B, G, D)`, as many steps as the memory has.
        """
        state = torch.tanh(self.start(memory.mean(dim=1)))
        fed = torch.zeros_like(state)  # no output yet, so nothing is fed back
        steps = []
        for _ in range(memory.shape[1]):
            weights = torch.softmax(torch.einsum("bh,bgh->bg", self.query(state), memory), dim=-1)
            context = torch.einsum("bg,bgh->bh", weights, memory)
            state = self.cell(torch.cat([fed, context], dim=-1), state)
            steps.append(readout(state))
            fed = embed(steps[-1])
        return torch.stack(steps, dim=1)


class MCTN(FusionHead):
    """Multimodal cyclic translation network.

    An encoder reads the source modality; a decoder translates its states into the first target modality; the same
    encoder and decoder translate that back into the source. So the encoder's states hold what source and target
    share, and they are the joint representation. A further target is translated from the joint representation of
    the level before, by an encoder and decoder of its own, whose states are the next joint representation. A
    recurrent network over the last one predicts. While the source is there, the other modalities are needed in
    training only: in eval mode the prediction does not depend on them at all.

    Losses, in training mode only: `"translation"`, the sum over targets of the mean squared error of the
    translation, on clips that have source and target; `"cycle"`, that of the translation back, on clips that have
    the source; and `"fallback"`, see below. Features should be normalised, as the errors are in their units.

    Pham et al., "Found in Translation: Learning Robust Joint Representations by Cyclic Translations Between
    Modalities", AAAI 2019: cyclic translation, and the hierarchical form for three modalities.

    Deviations:

    - Any number of targets, in sorted order; with none, the source's encoder predicts.
    - Modalities differ in size, so the encoder and decoder that both directions share work between linear maps
      into and out of each modality's features.
    - All modalities are brought to a grid of `steps` steps, which bounds the decoders' recurrence.
    - The paper needs the source in every clip. Here a clip without it is encoded from its other modalities: the
      shared encoder reads each of them, as it reads the translated target on the way back, and the mean over
      those present stands for the source's states. `"fallback"` trains that on clips that have both: the mean
      squared distance of a target's states from the source's, which are held fixed.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        primary: the source; `"text"` if present, else the first modality, when None.
        hidden_dim: size of states.
        steps: length of the grid.
        translation_weight: weight of `"translation"`.
        cycle_weight: weight of `"cycle"`.
        fallback_weight: weight of `"fallback"`.
        dropout: on the states that predict.

    Raises:
        ValueError: `steps` below 1, a negative weight, or an unknown `primary`.
    """

    name = "mctn"
    family = "representation"
    paper = (
        'Pham et al., "Found in Translation: Learning Robust Joint Representations by Cyclic Translations Between '
        'Modalities", AAAI 2019'
    )
    own_losses = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        primary: str | None = None,
        hidden_dim: int = 64,
        steps: int = 16,
        translation_weight: float = 0.1,
        cycle_weight: float = 0.1,
        fallback_weight: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.loss_weights = {"translation": translation_weight, "cycle": cycle_weight, "fallback": fallback_weight}
        for key, weight in self.loss_weights.items():
            if weight < 0:
                raise ValueError(f"{key}_weight must not be negative, but is {weight}")
        self.steps = steps
        self.primary = choose_primary(self.modalities, primary)
        self.targets = tuple(key for key in self.modalities if key != self.primary)
        self.embeddings = nn.ModuleDict({key: nn.Linear(dim, hidden_dim) for key, dim in self.input_dims.items()})
        # The source is written only on the way back from a target.
        written = self.modalities if self.targets else ()
        self.readouts = nn.ModuleDict({key: nn.Linear(hidden_dim, self.input_dims[key]) for key in written})
        levels = max(1, len(self.targets))
        self.encoders = nn.ModuleList(build_encoder("gru", hidden_dim, hidden_dim) for _ in range(levels))
        self.decoders = nn.ModuleList(TranslationDecoder(hidden_dim) for _ in self.targets)
        self.predictor = UnimodalEncoder(hidden_dim, hidden_dim, encoder="gru", dropout=dropout)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Encode the source level by level and predict; in training mode, translate as well."""
        grid = common_grid(inputs, self.steps)
        states = {key: self._encode(key, sequence) for key, sequence in grid.items()}
        joint = self._joint(states)
        joints = [joint]
        for encoder in list(self.encoders)[1:]:
            joints.append(encoder(joints[-1]))
        fused = self.predictor(joints[-1])
        losses = {}
        if self.training and self.targets:
            losses = {key: self.loss_weights[key] * value for key, value in self._losses(grid, states, joints).items()}
        return FusionOutput(
            self.output(fused),
            losses=losses,
            representations={**{key: masked_mean(value) for key, value in states.items()}, "fusion": fused},
        )

    def _encode(self, key: str, sequence: ModalitySequence) -> ModalitySequence:
        """The shared encoder's states of any modality."""
        embedded = ModalitySequence(self.embeddings[key](sequence.values), sequence.mask)
        states: ModalitySequence = self.encoders[0](embedded.zeroed())
        return states

    def _joint(self, states: Mapping[str, ModalitySequence]) -> ModalitySequence:
        """The source's states where it is there, else the mean of the other modalities' states."""
        source = states[self.primary]
        if not self.targets:
            return source
        present = stack_present({key: states[key] for key in self.targets})  # (B, M - 1)
        others = torch.stack([states[key].values for key in self.targets]).sum(dim=0)
        mean = others / present.sum(dim=1).clamp(min=1)[:, None, None]
        some = (present.any(dim=1) | source.present).unsqueeze(-1).expand_as(source.mask)
        return ModalitySequence(torch.where(source.mask.unsqueeze(-1), source.values, mean), some)

    def _losses(
        self,
        grid: Mapping[str, ModalitySequence],
        states: Mapping[str, ModalitySequence],
        joints: list[ModalitySequence],
    ) -> dict[str, Tensor]:
        """The three losses, not yet weighted."""
        source = grid[self.primary]
        translated = [
            decoder(joint.values, self.embeddings[key], self.readouts[key])
            for key, decoder, joint in zip(self.targets, self.decoders, joints, strict=True)
        ]
        # Both directions go through the first level's encoder and decoder.
        returned = self._encode(self.targets[0], ModalitySequence(translated[0], source.mask))
        back = self.decoders[0](returned.values, self.embeddings[self.primary], self.readouts[self.primary])
        translation = [
            reconstruction_loss(grid[key].values, value, grid[key].mask & source.mask)
            for key, value in zip(self.targets, translated, strict=True)
        ]
        anchor = states[self.primary].values.detach()
        fallback = [
            reconstruction_loss(anchor, states[key].values, grid[key].mask & source.mask) for key in self.targets
        ]
        return {
            "translation": torch.stack(translation).sum(),
            "cycle": reconstruction_loss(source.values, back, source.mask),
            "fallback": torch.stack(fallback).sum(),
        }
