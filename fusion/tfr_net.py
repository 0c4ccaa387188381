"""TFR-Net: robust to missing steps, because it learns to reconstruct the steps it drops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusion.attention import TransformerLayer, sinusoidal_positions
from fusion.encoders import build_encoder
from fusion.grid import at_most
from fusion.head import FusionHead
from fusion.objectives import clip_mean
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class CrossModalExtractor(nn.Module):
    """Intra- and inter-modal attention of one modality: its steps attend to themselves and to every other modality.

    `h = W [intra; inter_1; inter_2; ...] + b` per step; the block of a modality without a visible step is zero,
    which takes its term out of the linear map.

    Args:
        hidden_dim: size `H` of a step.
        others: the other modalities.
        layers: transformer layers in each branch.
        heads: attention heads.
        dropout: in the layers.
    """

    def __init__(self, hidden_dim: int, others: tuple[str, ...], *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()

        def branch(context_dim: int | None) -> nn.ModuleList:
            return nn.ModuleList(
                TransformerLayer(hidden_dim, context_dim, heads=heads, feedforward_dim=2 * hidden_dim, dropout=dropout)
                for _ in range(layers)
            )

        self.intra = branch(None)
        self.inter = nn.ModuleDict({key: branch(hidden_dim) for key in others})
        self.join = nn.Linear((1 + len(others)) * hidden_dim, hidden_dim)

    def forward(self, own: ModalitySequence, others: Mapping[str, ModalitySequence]) -> Tensor:
        """`(B, T, H)` → `(B, T, H)`; masks tell the visible steps, and every step is computed."""
        intra = own.values
        for layer in self.intra:
            intra = layer(intra, own.mask)
        blocks = [intra * own.present[:, None, None]]
        for key, branch in self.inter.items():
            inter, other = own.values, others[key]
            for layer in cast(nn.ModuleList, branch):
                inter = layer(inter, own.mask, other.values, other.mask)
            blocks.append(inter * other.present[:, None, None])
        out: Tensor = self.join(torch.cat(blocks, dim=-1))
        return out


class ConvolutionGate(nn.Module):
    """The CNN-fusion encoder of one modality: a recurrence, gated by a convolution over it, and max pooling.

    With `e` the bidirectional GRU's states of `h`: `g = sigmoid(conv(e))`, `u_t = tanh(W [e_t * g_t; h_t])`, and
    the maximum of `u_t` over real steps.

    Args:
        hidden_dim: size `H` of a step, and of the vector.
        kernel: odd width of the convolution in steps.
        dropout: on the vector.

    Raises:
        ValueError: an even `kernel`.
    """

    def __init__(self, hidden_dim: int, *, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd so that a step stays in the middle, not {kernel}")
        self.encoder = build_encoder("gru", hidden_dim, hidden_dim)
        self.gate = nn.Conv1d(hidden_dim, hidden_dim, kernel, padding=kernel // 2)
        self.mix = nn.Linear(2 * hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: ModalitySequence) -> Tensor:
        """`(B, T, H)` → `(B, H)`; zeros where the modality is missing."""
        sequence = sequence.compacted()
        encoded = self.encoder(sequence).values
        gate = torch.sigmoid(self.gate(encoded.transpose(1, 2)).transpose(1, 2))
        steps = torch.tanh(self.mix(torch.cat([encoded * gate, sequence.values], dim=-1)))
        pooled = steps.masked_fill(~sequence.mask.unsqueeze(-1), -1.0).amax(dim=1)  # tanh lies above -1
        out: Tensor = self.dropout(pooled).masked_fill(~sequence.present.unsqueeze(-1), 0.0)
        return out


class TFRNet(FusionHead):
    """Transformer-based feature reconstruction network.

    In training mode each real step of each modality is dropped with probability `drop_probability`: its features
    become zero and no step attends to it. Intra- and inter-modal attention then extracts features of all steps,
    the dropped ones included; from these, a linear decoder reconstructs the features that were dropped (loss
    `"reconstruction"`), and CNN fusion predicts. In eval mode nothing is dropped, and steps that the input lacks
    are masked out as everywhere in this package.

    The loss is the smooth L1 distance, averaged over the dropped steps and the features of a modality, then over
    modalities, times `reconstruction_weight`; steps that were not dropped are not in it. With nothing dropped in a
    batch it is 0; with `drop_probability` 0, and in eval mode, there is none.

    Yuan et al., "Transformer-based Feature Reconstruction Network for Robust Multimodal Sentiment Analysis", ACM
    Multimedia 2021: intra- and inter-modal attention extractor, reconstruction module, CNN fusion module.

    Deviations: any set of modalities, over all ordered pairs. The paper corrupts the input beforehand and at test
    time, too; here the head drops steps itself, from torch's generator, in training only. A dropped step is
    masked as a key, where the paper attends to its zeros. The decoder is linear in the extracted features,
    without a transformer of its own. Longer sequences are pooled to `max_steps` first, so that attention over
    pairs stays bounded. LayerNorm instead of batch normalisation.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of a step; a multiple of `heads`.
        layers: transformer layers in each branch of the extractor.
        heads: attention heads.
        kernel: odd width of the gate's convolution, in steps.
        max_steps: longer clips are pooled to this many steps.
        drop_probability: of a real step, in training mode.
        reconstruction_weight: weight of the loss.
        dropout: in all layers.

    Raises:
        ValueError: `drop_probability` outside [0, 1), an even `kernel`, or a count below 1.
    """

    name = "tfr_net"
    family = "representation"
    paper = (
        'Yuan et al., "Transformer-based Feature Reconstruction Network for Robust Multimodal Sentiment Analysis", '
        "ACM Multimedia 2021"
    )
    own_losses = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        layers: int = 1,
        heads: int = 4,
        kernel: int = 3,
        max_steps: int = 64,
        drop_probability: float = 0.2,
        reconstruction_weight: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if not 0 <= drop_probability < 1:
            raise ValueError(f"drop_probability must lie in [0, 1), not {drop_probability}: some steps must remain")
        for key, count in (("layers", layers), ("max_steps", max_steps)):
            if count < 1:
                raise ValueError(f"{key} must be at least 1, not {count}")
        self.max_steps = max_steps
        self.drop_probability = drop_probability
        self.reconstruction_weight = reconstruction_weight
        self.projections = nn.ModuleDict({key: nn.Linear(dim, hidden_dim) for key, dim in self.input_dims.items()})
        self.extractors = nn.ModuleDict(
            {
                key: CrossModalExtractor(
                    hidden_dim,
                    tuple(other for other in self.modalities if other != key),
                    layers=layers,
                    heads=heads,
                    dropout=dropout,
                )
                for key in self.modalities
            }
        )
        decoded = self.input_dims if drop_probability > 0 and reconstruction_weight > 0 else {}
        self.decoders = nn.ModuleDict({key: nn.Linear(hidden_dim, dim) for key, dim in decoded.items()})
        self.gates = nn.ModuleDict(
            {key: ConvolutionGate(hidden_dim, kernel=kernel, dropout=dropout) for key in self.modalities}
        )
        self.output = nn.Sequential(
            nn.Linear(len(self.modalities) * hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, output_dim),
        )

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Drop steps (in training), extract, reconstruct what was dropped, and predict."""
        inputs = {key: at_most(sequence, self.max_steps) for key, sequence in inputs.items()}
        visible = {key: self._drop(sequence) for key, sequence in inputs.items()}
        embedded = {key: self._embed(key, inputs[key].mask, sequence) for key, sequence in visible.items()}
        extracted = {key: extractor(embedded[key], embedded) for key, extractor in self.extractors.items()}
        vectors = {
            key: gate(ModalitySequence(extracted[key], inputs[key].mask).zeroed()) for key, gate in self.gates.items()
        }
        hidden = self.output[:-1](torch.cat(list(vectors.values()), dim=1))
        losses = {}
        if self.training and self.decoders:
            losses["reconstruction"] = self.reconstruction_weight * self._reconstruction(inputs, visible, extracted)
        return FusionOutput(self.output[-1](hidden), losses=losses, representations={**vectors, "fusion": hidden})

    def _drop(self, sequence: ModalitySequence) -> ModalitySequence:
        """In training mode, the sequence with random real steps masked out and zeroed."""
        if not self.training or self.drop_probability == 0:
            return sequence
        kept = torch.rand(sequence.mask.shape, device=sequence.mask.device) >= self.drop_probability
        return ModalitySequence(sequence.values, sequence.mask & kept).zeroed()

    def _embed(self, key: str, real: Tensor, visible: ModalitySequence) -> ModalitySequence:
        """Projected steps with their positions among the real ones, so that a dropped step knows where it is."""
        values = self.projections[key](visible.values)
        return ModalitySequence(values + sinusoidal_positions(real, values.shape[-1]).to(values.dtype), visible.mask)

    def _reconstruction(
        self,
        inputs: Mapping[str, ModalitySequence],
        visible: Mapping[str, ModalitySequence],
        extracted: Mapping[str, Tensor],
    ) -> Tensor:
        """Smooth L1 distance on the dropped steps, the mean over modalities."""
        losses = []
        for key, decoder in self.decoders.items():
            dropped = inputs[key].mask & ~visible[key].mask
            distance = F.smooth_l1_loss(decoder(extracted[key]), inputs[key].values, reduction="none").mean(dim=-1)
            losses.append(clip_mean(distance.flatten(), dropped.flatten()))
        return torch.stack(losses).mean()
