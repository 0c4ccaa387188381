"""Private and shared self-attention: one transformer per modality, and one that all of them share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fusion.attention import TransformerLayer
from fusion.encoders import EncoderName
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import AttentionPooling
from fusion.readout import ModalityPooling
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens


class SharedAttentionFusion(FusionHead):
    """Every modality is read twice, by self-attention of its own and by self-attention with shared weights.

    After Akbari et al., "VATT: Transformers for Multimodal Self-Supervised Learning from Raw Video, Audio and
    Text", NeurIPS 2021, which compares a transformer per modality with one modality-agnostic transformer whose
    weights all modalities share. The head runs both: the private one keeps what only this modality can say, the
    shared one is trained by all and so finds patterns over time that hold whatever carries them.

    For each modality: tokens `(B, T_m, H)` through its own layers and, in parallel, through the shared layers; both
    pooled by attention over steps; both vectors mapped to one view `(B, H)`. A scorer weighs the views;
    `weights` are its weights.

    Deviations from that source: both transformers in one model, supervised training, pre-norm layers over given
    features, a scorer instead of contrastive heads. There is no attention between modalities. A missing modality
    has no view and drops out of the scorer's softmax.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of a token; a multiple of `heads`.
        layers: layers of each private and of the shared transformer.
        heads: attention heads.
        encoder: sequence encoder per modality, before attention.
        max_steps: most tokens per modality; longer ones are pooled.
        dropout: in the layers.

    Raises:
        ValueError: `heads` does not divide `hidden_dim`.
    """

    name = "shared_attention"
    family = "attention"
    paper = (
        'after Akbari et al., "VATT: Transformers for Multimodal Self-Supervised Learning from Raw Video, Audio and '
        'Text", NeurIPS 2021'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        layers: int = 1,
        heads: int = 4,
        encoder: EncoderName = "none",
        max_steps: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        names = self.modalities
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, encoder=encoder, dropout=dropout)

        def reader() -> SelfAttentionReader:
            return SelfAttentionReader(hidden_dim, layers=layers, heads=heads, dropout=dropout)

        self.private = nn.ModuleDict({key: reader() for key in names})
        self.shared = reader()
        self.views = nn.ModuleDict({key: nn.Linear(2 * hidden_dim, hidden_dim) for key in names})
        self.readout = ModalityPooling(hidden_dim, names)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations` are each modality's view and their weighted mean."""
        views = {}
        for key, sequence in self.tokens(inputs).items():
            both = torch.cat([self.private[key](sequence), self.shared(sequence)], dim=-1)
            views[key] = torch.tanh(self.views[key](both)) * sequence.present.unsqueeze(-1)
        fused, weights = self.readout(views, stack_present(inputs))
        return FusionOutput(self.output(fused), weights=weights, representations={**views, "fusion": fused})


class SelfAttentionReader(nn.Module):
    """Self-attention layers, attention pooling, layer norm: a sequence → one vector.

    Args:
        dim: size of a token.
        layers: number of layers.
        heads: attention heads.
        dropout: in the layers.
    """

    def __init__(self, dim: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.pool = AttentionPooling(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, sequence: ModalitySequence) -> torch.Tensor:
        """`(B, T, H)` → `(B, H)`."""
        values = sequence.values
        for layer in self.layers:
            values = layer(values, sequence.mask)
        pooled: torch.Tensor = self.norm(self.pool(ModalitySequence(values, sequence.mask)))
        return pooled
