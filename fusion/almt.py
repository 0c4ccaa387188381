"""ALMT: language features of several scales gather a hyper-modality from the other modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import Attention, TransformerLayer, sinusoidal_positions
from fusion.encoders import Projection
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.pooling import masked_mean
from fusion.primary import choose_primary
from fusion.sequence import ModalitySequence
from fusion.tokens import prepend


class ModalityEmbedding(nn.Module):
    """A modality of any length → a fixed number of tokens.

    Learned tokens are put in front of the projected steps, one transformer layer runs over both, and the tokens
    are kept. Only their rows of the layer are computed, since the others are dropped; so the cost grows with the
    number of steps, not with its square.

    Args:
        input_dim: features per step.
        hidden_dim: size `H` of a token.
        tokens: how many tokens `K`.
        heads: attention heads.
        dropout: in the layer.
    """

    def __init__(self, input_dim: int, hidden_dim: int, *, tokens: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.project = Projection(input_dim, hidden_dim)
        self.tokens = nn.Parameter(torch.randn(tokens, hidden_dim) * hidden_dim**-0.5)
        self.layer = TransformerLayer(
            hidden_dim, hidden_dim, heads=heads, feedforward_dim=2 * hidden_dim, dropout=dropout
        )

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """`(B, T, input_dim)` → `(B, K, H)`, masked out where the modality is missing."""
        steps: ModalitySequence = self.project(sequence)
        positions = sinusoidal_positions(steps.mask, steps.values.shape[-1]).to(steps.values.dtype)
        context = prepend(self.tokens, ModalitySequence(steps.values + positions, steps.mask))
        count = self.tokens.shape[0]
        own, real = context.values[:, :count], context.mask[:, :count]
        tokens = self.layer(own, real, context.values, context.mask)
        return ModalitySequence(tokens, sequence.present.unsqueeze(-1).expand(-1, count))


class AdaptiveHyperModalityLayer(nn.Module):
    """One step of the hyper-modality: language queries every other modality, and the answers are added.

    `hyper + sum_m softmax(Q_m K_m^T / sqrt(d)) V_m`, with queries from the language features of this scale and
    keys and values from modality m.

    Args:
        hidden_dim: size `H` of all tokens.
        others: the modalities that are not language.
        heads: attention heads.
        dropout: on the attention weights.
    """

    def __init__(self, hidden_dim: int, others: tuple[str, ...], *, heads: int, dropout: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(hidden_dim) if others else nn.Identity()
        self.norms = nn.ModuleDict({key: nn.LayerNorm(hidden_dim) for key in others})
        self.attentions = nn.ModuleDict({key: Attention(hidden_dim, heads=heads, dropout=dropout) for key in others})

    def forward(self, hyper: Tensor, language: Tensor, others: Mapping[str, ModalitySequence]) -> Tensor:
        """`hyper` and `language` `(B, K, H)` → the next hyper-modality `(B, K, H)`."""
        query = self.query_norm(language)
        for key, attention in self.attentions.items():
            hyper = hyper + attention(query, self.norms[key](others[key].values), others[key].mask)
        return hyper


class ALMT(FusionHead):
    """Adaptive language-guided multimodal transformer.

    1. Modality embedding: a transformer layer with learned tokens turns each modality into `tokens` tokens.
    2. Language scales: transformer layers make `depth` versions of the language tokens, from low to high level.
    3. Adaptive hyper-modality learning: a learned hyper-modality is updated once per scale; at each, the language
       tokens query the other modalities, so that what contradicts or disturbs language is left out.
    4. Fusion: language of the last scale, with one more token in front, queries the hyper-modality in
       cross-attention layers; what stands in that token at the end predicts.

    With nothing in the language modality its tokens are the learned ones alone: a fixed query by which the
    others still fill the hyper-modality. A missing other modality adds nothing to it.

    Zhang et al., "Learning Language-guided Adaptive Hyper-modality Representation for Multimodal Sentiment
    Analysis", EMNLP 2023, sections 3.2 to 3.4.

    Deviations: after each cross-attention layer of the fusion a self-attention layer lets the token in front read
    the language tokens; queries do not see each other, so without it language would choose what is heard but
    never be heard itself. Any modality may be the guide, and any number of others follow; each of these has
    its own query map, where the paper shares one per layer. Pre-norm layers; sinusoidal positions of real steps;
    `hidden_dim` 64 instead of 128; language comes as features, not from a BERT that is trained along.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        primary: the guide; `"text"` if present, else the first modality, when None.
        hidden_dim: size of a token; a multiple of `heads`.
        tokens: tokens per modality, and of the hyper-modality.
        depth: language scales, each with one update of the hyper-modality.
        fusion_layers: layers of the fusion, each of cross-attention and self-attention.
        heads: attention heads.
        dropout: in all layers.

    Raises:
        ValueError: `tokens`, `depth` or `fusion_layers` below 1, or an unknown `primary`.
    """

    name = "almt"
    family = "representation"
    paper = (
        'Zhang et al., "Learning Language-guided Adaptive Hyper-modality Representation for Multimodal Sentiment '
        'Analysis", EMNLP 2023'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        primary: str | None = None,
        hidden_dim: int = 64,
        tokens: int = 8,
        depth: int = 3,
        fusion_layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        for key, count in (("tokens", tokens), ("depth", depth), ("fusion_layers", fusion_layers)):
            if count < 1:
                raise ValueError(f"{key} must be at least 1, not {count}")
        self.primary = choose_primary(self.modalities, primary)
        others = tuple(key for key in self.modalities if key != self.primary)
        wide = {"heads": heads, "feedforward_dim": 2 * hidden_dim}
        self.embeddings = nn.ModuleDict(
            {
                key: ModalityEmbedding(dim, hidden_dim, tokens=tokens, heads=heads, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.scales = nn.ModuleList(TransformerLayer(hidden_dim, **wide, dropout=dropout) for _ in range(depth - 1))
        self.updates = nn.ModuleList(
            AdaptiveHyperModalityLayer(hidden_dim, others, heads=heads, dropout=dropout) for _ in range(depth)
        )
        self.hyper = nn.Parameter(torch.randn(tokens, hidden_dim) * hidden_dim**-0.5)
        self.summary = nn.Parameter(torch.randn(2, 1, hidden_dim) * hidden_dim**-0.5)  # of language, of hyper
        self.crossings = nn.ModuleList(
            TransformerLayer(hidden_dim, hidden_dim, **wide, dropout=dropout) for _ in range(fusion_layers)
        )
        self.readings = nn.ModuleList(
            TransformerLayer(hidden_dim, **wide, dropout=dropout) for _ in range(fusion_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Embed, gather the hyper-modality scale by scale, then let language read it."""
        tokens = {key: self.embeddings[key](sequence) for key, sequence in inputs.items()}
        language = tokens[self.primary].values
        others = {key: value for key, value in tokens.items() if key != self.primary}
        hyper = self.updates[0](self.hyper.expand_as(language), language, others)
        for scale, update in zip(self.scales, list(self.updates)[1:], strict=True):
            language = scale(language, torch.ones_like(language[..., 0], dtype=torch.bool))
            hyper = update(hyper, language, others)
        fused = self._read(ModalitySequence(language, tokens[self.primary].mask), hyper)
        vectors = {key: masked_mean(value) for key, value in tokens.items()}
        return FusionOutput(self.output(fused), representations={**vectors, "fusion": fused})

    def _read(self, language: ModalitySequence, hyper: Tensor) -> Tensor:
        """`(B, H)`: what the token in front has read in the hyper-modality and in language, where there is any."""
        query = prepend(self.summary[0], language)
        context = prepend(self.summary[1], ModalitySequence(hyper, torch.ones_like(language.mask)))
        values = query.values
        for crossing, reading in zip(self.crossings, self.readings, strict=True):
            values = crossing(values, query.mask, context.values, context.mask)
            values = reading(values, query.mask)
        fused: Tensor = self.norm(values[:, 0])
        return fused
