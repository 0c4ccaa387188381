"""Attention bottlenecks: modalities exchange what they know through a few shared tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.readout import present_mean
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, join, prepend


class BottleneckFusion(FusionHead):
    """Multimodal bottleneck transformer.

    Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021, fusion via attention bottlenecks.
    Every modality has a transformer of its own over [CLS] and its tokens. From layer `fusion_layer` on, `bottlenecks`
    shared tokens `z_fsn` take part: `[z_m; z_fsn_m] = Transformer_m([z_m; z_fsn])`, then `z_fsn = mean_m z_fsn_m`. The
    prediction is the mean over modalities of a linear classifier on each [CLS].

    Deviations:
        - Means run over the modalities that are there.
        - Pre-norm layers over given features instead of pretrained ViT and AST; sinusoidal positions; modalities
          longer than `max_steps` are pooled to that.
        - Each modality's classifier is its own. [CLS] and bottleneck tokens start with unit variance, as the
          normalised tokens have.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of a token; a multiple of `heads`.
        layers: layers of each transformer.
        fusion_layer: first layer, from 0, in which bottlenecks take part. What a modality writes into them in one
            layer the others read in the next, so at least two layers must follow.
        bottlenecks: number of shared tokens.
        heads: attention heads.
        max_steps: most tokens per modality.
        dropout: in the layers.

    Raises:
        ValueError: fewer than two layers from `fusion_layer` on, no bottleneck, or `heads` does not divide
            `hidden_dim`.
    """

    name = "bottleneck"
    family = "attention"
    paper = 'Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        layers: int = 3,
        fusion_layer: int = 1,
        bottlenecks: int = 4,
        heads: int = 4,
        max_steps: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if not 0 <= fusion_layer <= layers - 2:
            raise ValueError(
                f"at least two layers must follow fusion_layer for modalities to hear each other: "
                f"with layers={layers} it is 0 to {layers - 2}, not {fusion_layer}"
            )
        if bottlenecks < 1:
            raise ValueError(f"modalities meet in at least 1 bottleneck token, not {bottlenecks}")
        self.fusion_layer = fusion_layer
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, dropout=dropout)
        self.cls = nn.Parameter(torch.randn(len(self.modalities), 1, hidden_dim))
        self.bottlenecks = nn.Parameter(torch.randn(bottlenecks, hidden_dim))
        self.layers = nn.ModuleList(
            nn.ModuleDict({key: TransformerLayer(hidden_dim, heads=heads, dropout=dropout) for key in self.modalities})
            for _ in range(layers)
        )
        self.norms = nn.ModuleDict({key: nn.LayerNorm(hidden_dim) for key in self.modalities})
        self.outputs = nn.ModuleDict({key: nn.Linear(hidden_dim, output_dim) for key in self.modalities})

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations` are each modality's [CLS] and, as `"fusion"`, the mean bottleneck."""
        tokens = self.tokens(inputs)
        streams = {key: prepend(self.cls[row], tokens[key]) for row, key in enumerate(self.modalities)}
        present = stack_present(inputs)
        shared = self.bottlenecks.expand(present.shape[0], -1, -1)
        for level, layers in enumerate(self.layers):
            assert isinstance(layers, nn.ModuleDict)
            if level < self.fusion_layer:
                streams = {key: ModalitySequence(layers[key](s.values, s.mask), s.mask) for key, s in streams.items()}
            else:
                streams, shared = self._exchange(layers, streams, shared, present)
        summaries = {key: self.norms[key](s.values[:, 0]) for key, s in streams.items()}
        prediction = present_mean([self.outputs[key](vector) for key, vector in summaries.items()], present)
        shown = {key: vector * inputs[key].present.unsqueeze(-1) for key, vector in summaries.items()}
        return FusionOutput(prediction, representations={**shown, "fusion": shared.mean(dim=1)})

    def _exchange(
        self, layers: nn.ModuleDict, streams: dict[str, ModalitySequence], shared: Tensor, present: Tensor
    ) -> tuple[dict[str, ModalitySequence], Tensor]:
        """One layer with bottlenecks: each modality's stream, and the mean of what they left in the tokens."""
        count = shared.shape[1]
        real = torch.ones(shared.shape[:2], dtype=torch.bool, device=shared.device)
        after, copies = {}, []
        for key, stream in streams.items():
            both = join([ModalitySequence(shared, real), stream])
            values = layers[key](both.values, both.mask)
            copies.append(values[:, :count])
            after[key] = ModalitySequence(values[:, count:], stream.mask)
        return after, present_mean(copies, present)
