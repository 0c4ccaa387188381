"""TETFN: transformers between modalities that are enhanced by text, with self-supervised unimodal labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer, sinusoidal_positions
from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.grid import at_most
from fusion.head import stack_present
from fusion.output import FusionOutput
from fusion.pooling import AttentionPooling
from fusion.primary import choose_primary
from fusion.self_mm import SelfMM
from fusion.sequence import ModalitySequence


class TextEnhancedTransformer(nn.Module):
    """From modality `source` to modality `target`, by way of text.

    Text-oriented attention first: the steps of `source` query the text. Then cross-modal layers: the steps of
    `target` query what came of that. Without a text in a clip the first attention adds nothing, and what is left is
    a plain cross-modal transformer.

    Args:
        hidden_dim: size `H` of all states.
        layers: cross-modal layers after the text-oriented one.
        heads: attention heads.
        dropout: in the layers.
    """

    def __init__(self, hidden_dim: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.lower = _cross_layer(hidden_dim, heads, dropout)
        self.upper = nn.ModuleList(_cross_layer(hidden_dim, heads, dropout) for _ in range(layers))

    def forward(self, target: ModalitySequence, source: ModalitySequence, text: ModalitySequence) -> Tensor:
        """Three sequences `(B, T_m, H)` → `(B, T_target, H)`."""
        enhanced = self.lower(source.values, source.mask, text.values, text.mask)
        values = target.values
        for layer in self.upper:
            values = layer(values, target.mask, enhanced, source.mask)
        return values


class EnhancedModality(nn.Module):
    """One modality, enhanced by all others, as one vector.

    The branches' results stand side by side per step, a linear map brings them to one size, a self-attention layer
    reads them, and attention pooling makes one vector. A branch whose other modality is missing leaves the states
    of this one as they are.

    Args:
        hidden_dim: size `H`.
        own: this modality.
        others: all other modalities.
        primary: the text.
        layers: cross-modal layers of each branch.
        heads: attention heads.
        dropout: in the layers.
    """

    def __init__(
        self, hidden_dim: int, own: str, others: Sequence[str], primary: str, *, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.own, self.primary = own, primary
        through_text = [] if own == primary else [key for key in others if key != primary]
        plain = [] if through_text else list(others)
        self.enhanced = nn.ModuleDict(
            {
                key: TextEnhancedTransformer(hidden_dim, layers=layers, heads=heads, dropout=dropout)
                for key in through_text
            }
        )
        self.plain = nn.ModuleDict(
            {key: nn.ModuleList(_cross_layer(hidden_dim, heads, dropout) for _ in range(layers)) for key in plain}
        )
        branches = len(through_text) + len(plain)
        self.join = nn.Linear(branches * hidden_dim, hidden_dim) if branches else nn.Identity()
        self.memory = TransformerLayer(hidden_dim, heads=heads, feedforward_dim=2 * hidden_dim, dropout=dropout)
        self.pool = AttentionPooling(hidden_dim)

    def forward(self, states: Mapping[str, ModalitySequence]) -> Tensor:
        """States `(B, T_m, H)` of all modalities → `(B, H)`, zeros where this one is missing."""
        own = states[self.own]
        blocks = [branch(own, states[key], states[self.primary]) for key, branch in self.enhanced.items()]
        for key, layers in self.plain.items():
            values, other = own.values, states[key]
            for layer in cast(nn.ModuleList, layers):
                values = layer(values, own.mask, other.values, other.mask)
            blocks.append(values)
        joined = self.join(torch.cat(blocks, dim=-1) if blocks else own.values)
        read = ModalitySequence(self.memory(joined, own.mask), own.mask).zeroed()
        pooled: Tensor = self.pool(read)
        return pooled


class TETFN(SelfMM):
    """Text-enhanced transformer fusion network.

    Self-MM's multi-task learning, with another fusion: where that concatenates the modalities' vectors, here
    transformers between modalities enhance each of them first. A modality that is not text hears every other such
    modality through a `TextEnhancedTransformer`, text hears each other modality through a plain cross-modal one,
    and the enhanced vectors are concatenated. Unimodal outputs, their pseudo-labels, `target_losses` and what
    training mode does to `unimodal` are those of `SelfMM`.

    Wang et al., "TETFN: A Text Enhanced Transformer Fusion Network for Multimodal Sentiment Analysis", Pattern
    Recognition 136, 2023: text-oriented multi-head attention, text-enhanced transformer, unimodal label generation.

    Deviations: those of `SelfMM`; any modality may stand in the place of text, and any number of others follow;
    with one other modality only there is no pair to go between, and it hears the text itself. Attention pooling
    instead of the last step. Sequences need not be aligned; longer ones are pooled to `max_steps`. One layer by
    default. A modality that nothing can enhance in a clip speaks for itself.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        primary: the text; `"text"` if present, else the first modality, when None.
        hidden_dim: size of all states and vectors; a multiple of `heads`.
        layers: cross-modal layers of each branch.
        heads: attention heads.
        max_steps: longer clips are pooled to this many steps.
        label_columns: outputs that get pseudo-labels (see `SelfMM`).
        label_range: largest absolute value of such a label.
        encoder: sequence encoder of every modality.
        pooling: how a modality's own steps become one vector.
        unimodal_weight: factor of the unimodal losses.
        dropout: in the encoders, in all layers and on the vectors.

    Raises:
        ValueError: `layers` or `max_steps` below 1, an unknown `primary`, or a label column that is no output or is
            named twice.
    """

    name = "tetfn"
    family = "representation"
    paper = (
        'Wang et al., "TETFN: A Text Enhanced Transformer Fusion Network for Multimodal Sentiment Analysis", '
        "Pattern Recognition 2023"
    )
    own_losses = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        primary: str | None = None,
        hidden_dim: int = 64,
        layers: int = 1,
        heads: int = 4,
        max_steps: int = 64,
        label_columns: Sequence[int] = (0,),
        label_range: float = 3.0,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        unimodal_weight: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(
            input_dims,
            output_dim,
            hidden_dim=hidden_dim,
            label_columns=label_columns,
            label_range=label_range,
            encoder=encoder,
            pooling=pooling,
            unimodal_weight=unimodal_weight,
            dropout=dropout,
        )
        for key, count in (("layers", layers), ("max_steps", max_steps)):
            if count < 1:
                raise ValueError(f"{key} must be at least 1, not {count}")
        self.primary = choose_primary(self.modalities, primary)
        self.max_steps = max_steps
        self.enhancers = nn.ModuleList(
            EnhancedModality(
                hidden_dim,
                key,
                [other for other in self.modalities if other != key],
                self.primary,
                layers=layers,
                heads=heads,
                dropout=dropout,
            )
            for key in self.modalities
        )

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Encode, enhance between modalities, predict together and alone (see `SelfMM.fuse`)."""
        present = stack_present(inputs)  # (B, M)
        encoded = {
            key: _encode(cast(UnimodalEncoder, encoder), at_most(inputs[key], self.max_steps))
            for key, encoder in zip(self.modalities, self.encoders, strict=True)
        }
        states = {key: _with_positions(sequence) for key, (sequence, _) in encoded.items()}
        enhanced = torch.stack([enhancer(states) for enhancer in self.enhancers], dim=1)  # (B, M, H)
        return self.predict({key: vector for key, (_, vector) in encoded.items()}, enhanced, present)


def _cross_layer(hidden_dim: int, heads: int, dropout: float) -> TransformerLayer:
    return TransformerLayer(hidden_dim, hidden_dim, heads=heads, feedforward_dim=2 * hidden_dim, dropout=dropout)


def _encode(encoder: UnimodalEncoder, sequence: ModalitySequence) -> tuple[ModalitySequence, Tensor]:
    """An encoder's states `(B, T, H)` and, from the same pass, its vector `(B, H)`."""
    states: ModalitySequence = encoder.encoder(sequence)
    vector: Tensor = encoder.dropout(encoder.pooling(states))
    return states, vector.masked_fill(~sequence.present.unsqueeze(-1), 0.0)


def _with_positions(states: ModalitySequence) -> ModalitySequence:
    codes = sinusoidal_positions(states.mask, states.values.shape[-1]).to(states.values.dtype)
    return ModalitySequence(states.values + codes, states.mask)
