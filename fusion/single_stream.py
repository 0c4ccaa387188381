"""Single-stream fusion: one transformer over the tokens of all modalities (ViLT)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer, sinusoidal_positions
from fusion.grid import at_most
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence
from fusion.tokens import join, prepend


class SingleStreamFusion(FusionHead):
    """Linear token embeddings of all modalities in one sequence with a class token, read by one transformer.

    Kim, Son & Kim, "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", ICML 2021,
    section 3.1. A token is a linear map of one step's features, plus its position within its modality, plus its
    modality's type embedding; every token attends to every other. The clip is read from the class token through a
    tanh layer. A missing modality has no tokens.

    Deviations: any number of modalities, none pretrained; a modality with more than `max_steps` steps is pooled to
    that many first (the mean over equal cells), so that memory is bounded by the square of
    `1 + max_steps * modalities` and not of the clip's length; one class token instead of one per modality, of
    which the source reads the first only; sinusoidal positions instead of learned ones, which need a fixed longest
    length.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of a token; a multiple of `heads`.
        layers: transformer layers.
        heads: attention heads.
        max_steps: most tokens of a modality.
        dropout: on the tokens and in the layers.

    Raises:
        ValueError: `max_steps` or `layers` below 1, or `heads` does not divide `hidden_dim`.
    """

    name = "single_stream"
    family = "early"
    paper = (
        'Kim, Son & Kim, "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", ICML 2021'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        layers: int = 2,
        heads: int = 4,
        max_steps: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if max_steps < 1 or layers < 1:
            raise ValueError(f"max_steps and layers must be at least 1, not {max_steps} and {layers}")
        self.max_steps = max_steps
        self.embed = nn.ModuleDict({key: nn.Linear(dim, hidden_dim) for key, dim in self.input_dims.items()})
        self.types = nn.ParameterDict({key: nn.Parameter(torch.randn(hidden_dim) * 0.02) for key in self.modalities})
        self.class_token = nn.Parameter(torch.randn(1, hidden_dim) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(hidden_dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_dim)
        self.pooler = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.Tanh())
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Embed all steps, read them in one stream, predict from the class token."""
        tokens = self.tokens(inputs)
        values = self.dropout(tokens.values)
        for layer in self.layers:
            values = layer(values, tokens.mask)
        fused: Tensor = self.pooler(self.norm(values[:, 0]))
        return FusionOutput(prediction=self.output(fused), representations={"fusion": fused})

    def tokens(self, inputs: Mapping[str, ModalitySequence]) -> ModalitySequence:
        """`(B, 1 + sum of min(T_m, max_steps), H)`: the class token, then each modality's tokens."""
        return prepend(self.class_token, join(self._embedded(key, inputs[key]) for key in self.modalities))

    def _embedded(self, key: str, sequence: ModalitySequence) -> ModalitySequence:
        short = at_most(sequence, self.max_steps)
        values = self.embed[key](short.values) + self.types[key]
        positions = sinusoidal_positions(short.mask, values.shape[-1]).to(values.dtype)
        return ModalitySequence(values + positions, short.mask).zeroed()
