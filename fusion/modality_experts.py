"""Mixture of modality experts: shared self-attention over all tokens, feed-forward blocks per modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.attention import Attention, TransformerLayer
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.pooling import AttentionPooling
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, join


class ModalityExpertsFusion(FusionHead):
    """Multiway transformer over the tokens of all modalities in one sequence.

    Bao et al., "VLMo: Unified Vision-Language Pre-Training with Mixture-of-Modality-Experts", NeurIPS 2022, section
    3.2. In the lower layers all tokens share the self-attention, and each passes through its modality's feed-forward
    expert; in the top `fusion_layers` layers one fusion expert serves all tokens.

    `weights` are the shares of the last pooling's attention that fall on each modality's tokens.

    Deviations:
        - Any number of modalities, one expert each; missing ones are masked keys.
        - Pre-norm without layer scale, from scratch over given features; modalities longer than `max_steps` are
          pooled to that. Attention pooling over all tokens instead of the text's [CLS], which may be missing.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of a token; a multiple of `heads`.
        expert_layers: layers with an expert per modality.
        fusion_layers: layers on top with the fusion expert.
        heads: attention heads.
        max_steps: most tokens per modality: attention is quadratic in their sum.
        dropout: in the layers.

    Raises:
        ValueError: `expert_layers` below 1, or `heads` does not divide `hidden_dim`.
    """

    name = "modality_experts"
    family = "attention"
    paper = 'Bao et al., "VLMo: Unified Vision-Language Pre-Training with Mixture-of-Modality-Experts", NeurIPS 2022'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        expert_layers: int = 1,
        fusion_layers: int = 1,
        heads: int = 4,
        max_steps: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if expert_layers < 1:
            raise ValueError(f"without a layer of modality experts there are none: expert_layers is {expert_layers}")
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, dropout=dropout)
        self.experts = nn.ModuleList(
            ExpertLayer(hidden_dim, self.modalities, heads=heads, dropout=dropout) for _ in range(expert_layers)
        )
        self.fusion = nn.ModuleList(
            TransformerLayer(hidden_dim, heads=heads, dropout=dropout) for _ in range(fusion_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.pool = AttentionPooling(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations["fusion"]` is the pooled sequence."""
        tokens = self.tokens(inputs)
        sizes = [tokens[key].mask.shape[1] for key in self.modalities]
        joint = join(tokens[key] for key in self.modalities)
        values = joint.values
        for layer in self.experts:
            values = layer(values, joint.mask, sizes)
        for layer in self.fusion:
            values = layer(values, joint.mask)
        joint = ModalitySequence(self.norm(values), joint.mask)
        shares = self.pool.weights(joint)
        fused = torch.einsum("bt,bth->bh", shares, joint.values)
        weights = {
            key: part.sum(dim=1) for key, part in zip(self.modalities, torch.split(shares, sizes, dim=1), strict=True)
        }
        return FusionOutput(self.output(fused), weights=weights, representations={"fusion": fused})


class ExpertLayer(nn.Module):
    """Shared self-attention, then a feed-forward expert per modality; pre-norm, with residuals.

    `x' = x + MSA(LN(x))`, then for each modality's tokens `x' + FFN_m(LN(x'))`. The second normalisation is the
    expert's own.

    Args:
        dim: size of a token.
        modalities: names, in the order of their tokens.
        heads: attention heads.
        dropout: after each part.
    """

    def __init__(self, dim: int, modalities: Sequence[str], *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads=heads, dropout=dropout)
        self.experts = nn.ModuleDict(
            {
                key: nn.Sequential(
                    nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
                )
                for key in modalities
            }
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor, sizes: Sequence[int]) -> Tensor:
        """`(B, T, H)`, with `sizes` tokens of each modality in turn → `(B, T, H)`."""
        normed = self.norm(values)
        values = values + self.dropout(self.attention(normed, normed, mask))
        parts = torch.split(values, list(sizes), dim=1)
        told = [expert(part) for expert, part in zip(self.experts.values(), parts, strict=True)]
        out: Tensor = values + self.dropout(torch.cat(told, dim=1))
        return out
