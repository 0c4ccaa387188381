"""Zero-initialised gated prompts, as in LLaMA-Adapter: the others speak through prompts behind gates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer
from fusion.encoders import EncoderName, UnimodalEncoder
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.pooling import masked_softmax
from fusion.primary import choose_primary
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, prepend


class ZeroAdapterFusion(FusionHead):
    """The primary's transformer, with prompts from the other modalities behind zero-initialised gates.

    Zhang et al., "LLaMA-Adapter: Efficient Fine-tuning of Large Language Models with Zero-initialized Attention",
    ICLR 2024. In each layer stand, per other modality, `prompts` learned vectors to which the modality's clip vector
    is added (the paper's multimodal reasoning); `PromptedLayer` reads them. The gates start at zero: an untrained
    head is exactly its primary-only transformer.

    Deviations:
        - Any primary, any number of others, each with prompts of its own; those of missing modalities are masked.
        - A learned [CLS] step stands before the primary's steps and predicts, so a clip without the primary is still
          heard, through [CLS].
        - The primary's transformer is trained from scratch, not frozen, bidirectional and pre-norm; prompts stand in
          all of its layers.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of the states; a multiple of `heads`.
        primary: who listens; `"text"` if there is one, else the first in sorted order, when None.
        prompts: prompts per other modality and layer.
        layers: layers of the primary's transformer.
        heads: attention heads.
        encoder: sequence encoder of the other modalities, pooled by attention.
        max_steps: a longer primary is pooled to this many steps before the first layer.
        dropout: in encoders and layers.

    Raises:
        ValueError: unknown `primary`, no prompt, or `heads` does not divide `hidden_dim`.
    """

    name = "zero_adapter"
    family = "attention"
    paper = (
        'Zhang et al., "LLaMA-Adapter: Efficient Fine-tuning of Large Language Models with Zero-initialized '
        'Attention", ICLR 2024'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        primary: str | None = None,
        prompts: int = 4,
        layers: int = 2,
        heads: int = 4,
        encoder: EncoderName = "gru",
        max_steps: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if prompts < 1:
            raise ValueError(f"a modality speaks through at least 1 prompt, not {prompts}")
        self.primary = choose_primary(self.modalities, primary)
        others = {key: dim for key, dim in self.input_dims.items() if key != self.primary}
        self.tokens = ModalityTokens(
            {self.primary: self.input_dims[self.primary]}, hidden_dim, max_steps=max_steps, dropout=dropout
        )
        self.encoders = nn.ModuleDict(
            {key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, dropout=dropout) for key, dim in others.items()}
        )
        self.cls = nn.Parameter(torch.randn(1, hidden_dim))
        self.layers = nn.ModuleList(
            PromptedLayer(hidden_dim, heads=heads, dropout=dropout, gated=bool(others)) for _ in range(layers)
        )
        size = (layers, len(others), prompts, hidden_dim)
        self.prompts = nn.Parameter(torch.randn(size)) if others else None
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations["fusion"]` is the last [CLS] state."""
        states = prepend(self.cls, self.tokens(inputs)[self.primary])
        prompts = self._prompts(inputs)
        values = states.values
        for level, layer in enumerate(self.layers):
            values = layer(values, states.mask, prompts[level] if prompts else None)
        fused = self.norm(values[:, 0])
        return FusionOutput(self.output(fused), representations={"fusion": fused})

    def _prompts(self, inputs: dict[str, ModalitySequence]) -> list[ModalitySequence]:
        """One `(B, others * prompts, H)` per layer, masked where a modality is missing."""
        if self.prompts is None:
            return []
        vectors = torch.stack([encoder(inputs[key]) for key, encoder in self.encoders.items()], dim=1)  # (B, M, H)
        present = torch.stack([inputs[key].present for key in self.encoders], dim=1)  # (B, M)
        mask = present.repeat_interleave(self.prompts.shape[2], dim=1)
        values = self.prompts.unsqueeze(1) + vectors.unsqueeze(2)  # (layers, B, M, prompts, H)
        return [ModalitySequence(level.flatten(1, 2), mask) for level in values]


class PromptedLayer(nn.Module):
    """A self-attention layer whose steps also attend to prompts, in a softmax of their own behind a gate.

    The paper's zero-initialised attention: scores against prompts and against the sequence are soft-maxed apart, the
    former multiplied by `tanh(g)`, with one `g = 0` per attention head at first. Queries, keys, values and the output
    map are the layer's own for both. As in the paper, prompts are not normalised.

    Args:
        dim: features of sequence and prompts.
        heads: attention heads.
        dropout: as in `TransformerLayer`.
        gated: whether there will be prompts.
    """

    def __init__(self, dim: int, *, heads: int, dropout: float, gated: bool) -> None:
        super().__init__()
        self.layer = TransformerLayer(dim, heads=heads, dropout=dropout)
        self.gate = nn.Parameter(torch.zeros(heads)) if gated else None

    def forward(self, values: Tensor, mask: Tensor, prompts: ModalitySequence | None) -> Tensor:
        """`(B, T, H)`, its mask and prompts `(B, P, H)` → `(B, T, H)`."""
        layer = self.layer
        normed = layer.norm(values)
        attended = layer.attention(normed, normed, mask)
        if prompts is not None:
            attended = attended + self._prompted(normed, prompts)
        values = values + layer.dropout(attended)
        out: Tensor = values + layer.dropout(layer.feedforward(values))
        return out

    def _prompted(self, normed: Tensor, prompts: ModalitySequence) -> Tensor:
        """What prompts add to the attention's output, `(B, T, H)`; the output map is linear, so it adds up."""
        assert self.gate is not None
        attention = self.layer.attention
        query = attention.query(normed).unflatten(-1, (attention.heads, -1))  # (B, T, heads, d)
        both = attention.key_value(prompts.values).unflatten(-1, (2, attention.heads, -1))
        key, value = both.unbind(dim=2)  # (B, P, heads, d)
        scores = torch.einsum("bthd,bphd->bhtp", query, key) / query.shape[-1] ** 0.5
        weights = masked_softmax(scores, prompts.mask[:, None, None, :]) * torch.tanh(self.gate).view(-1, 1, 1)
        read = torch.einsum("bhtp,bphd->bthd", weights, value).flatten(2)
        return nn.functional.linear(read, attention.output.weight)
