"""Cross-attention: each modality reads all the others in one layer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from fusion.attention import TransformerLayer
from fusion.encoders import EncoderName
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import AttentionPooling
from fusion.readout import ModalityPooling
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, join


class CrossAttentionFusion(FusionHead):
    """Each modality attends to the tokens of all others at once, then is pooled; a scorer weighs the modalities.

    The attention is eq. 1 of Vaswani et al. 2017 with queries from one modality and keys from the others, as
    between vision and language in the cross-modality encoder of Tan & Bansal 2019. Unlike `MulT`, one layer
    per modality instead of a stack per ordered pair: its softmax weighs the other modalities against each other.

    `weights` are the scorer's: how much each modality's view, which has read the others, counted.

    Deviations:
        - Any number of modalities; one alone attends to itself. One cross-attention layer without the
          self-attention that follows it in the paper: the encoders provide the context within a modality.
        - Missing modalities are masked keys and have no view. Where all the others are missing, a modality's tokens
          pass through the feed-forward block alone.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of a token; a multiple of `heads`.
        heads: attention heads.
        encoder: sequence encoder per modality, before attention.
        max_steps: most tokens per modality; longer ones are pooled.
        dropout: in encoders and attention.

    Raises:
        ValueError: `heads` does not divide `hidden_dim`.
    """

    name = "cross_attention"
    family = "attention"
    paper = 'Tan & Bansal, "LXMERT: Learning Cross-Modality Encoder Representations from Transformers", EMNLP 2019'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        heads: int = 4,
        encoder: EncoderName = "gru",
        max_steps: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        names = self.modalities
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, encoder=encoder, dropout=dropout)
        context_dim = hidden_dim if len(names) > 1 else None
        self.layers = nn.ModuleDict(
            {key: TransformerLayer(hidden_dim, context_dim, heads=heads, dropout=dropout) for key in names}
        )
        self.pools = nn.ModuleDict({key: AttentionPooling(hidden_dim) for key in names})
        self.norms = nn.ModuleDict({key: nn.LayerNorm(hidden_dim) for key in names})
        self.readout = ModalityPooling(hidden_dim, names)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations` are each modality's view and their weighted mean."""
        tokens = self.tokens(inputs)
        views = {}
        for key, own in tokens.items():
            others = [sequence for name, sequence in tokens.items() if name != key]
            if others:
                context = join(others)
                read = self.layers[key](own.values, own.mask, context.values, context.mask)
            else:
                read = self.layers[key](own.values, own.mask)
            pooled = self.pools[key](ModalitySequence(read, own.mask))
            views[key] = self.norms[key](pooled) * own.present.unsqueeze(-1)
        fused, weights = self.readout(views, stack_present(inputs))
        return FusionOutput(self.output(fused), weights=weights, representations={**views, "fusion": fused})
