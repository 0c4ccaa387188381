"""Hierarchical fusion: single modalities, then every pair, then all pairs together."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import masked_softmax
from fusion.sequence import ModalitySequence


class ElementwiseFusion(nn.Module):
    """Fuses N vectors feature by feature: `tanh(sum_n w_n * x_n + b)`, every product elementwise.

    Majumder et al. 2018, the bimodal and trimodal fusion: feature k of the result sees feature k of the members
    only. With members missing, the sum over those there is scaled by N / number there, so that the argument of
    tanh keeps its size.

    Args:
        members: number N of vectors.
        dim: size `H` of each.
    """

    def __init__(self, members: int, dim: int) -> None:
        super().__init__()
        bound = members**-0.5
        self.weight = nn.Parameter(torch.empty(members, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(dim).uniform_(-bound, bound))

    def forward(self, members: Tensor, present: Tensor) -> Tensor:
        """`members (B, N, H)` and `present (B, N)` bool → `(B, H)`; `tanh(b)` where none is present."""
        kept = members.masked_fill(~present.unsqueeze(-1), 0.0)
        scale = present.shape[1] / present.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
        return torch.tanh((kept * self.weight).sum(dim=1) * scale + self.bias)


class HierarchicalFusion(FusionHead):
    """Unimodal vectors, nonlinear fusion of every pair, nonlinear fusion of all pairs; a prediction at each level.

    Majumder et al., "Multimodal Sentiment Analysis Using Hierarchical Fusion with Context Modeling",
    Knowledge-Based Systems 2018 (CHFusion), the section on bimodal and trimodal fusion. With `u_m` the unimodal
    vectors, brought to one size by a tanh layer:

    - level 1: `u_m`, one per modality;
    - level 2: `f_mn = tanh(w_m * u_m + w_n * u_n + b)`, one per pair (two or more modalities);
    - level 3: `z = tanh(sum_mn w_mn * f_mn + b)`, over all pairs (three or more modalities).

    Each level predicts (levels 1 and 2 with the mean over their members present) and the result is the sum of the
    level predictions by softmax weights that are learned. A pair with a missing modality is masked. A level needs
    as many modalities as its number: a clip with two modalities has levels 1 and 2, and a clip with one gets the
    unimodal prediction of that modality, exactly.

    Deviations: any number of modalities; predictions at every level instead of the last one only, so that clips
    with missing modalities are answered by classifiers that complete clips have trained; no context from the
    neighbouring utterances of the same video (the source runs a GRU over them), since a head sees single clips.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size `H` of the vectors at every level.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        dropout: on the unimodal vectors.

    Raises:
        ValueError: unknown `encoder` or `pooling`.
    """

    name = "hierarchical"
    family = "hierarchical"
    paper = (
        'Majumder, Hazarika, Gelbukh, Cambria & Poria, "Multimodal Sentiment Analysis Using Hierarchical Fusion '
        'with Context Modeling", Knowledge-Based Systems 2018'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        count = len(self.input_dims)
        self.pairs = tuple(combinations(range(count), 2))
        self.levels = min(count, 3)
        self.equalise = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(count))
        self.pair_fusion = nn.ModuleList(ElementwiseFusion(2, hidden_dim) for _ in self.pairs)
        self.all_fusion = ElementwiseFusion(len(self.pairs), hidden_dim) if self.levels == 3 else None
        self.unimodal_output = nn.ModuleList(nn.Linear(hidden_dim, output_dim) for _ in range(count))
        self.pair_output = nn.ModuleList(nn.Linear(hidden_dim, output_dim) for _ in self.pairs)
        self.all_output = nn.Linear(hidden_dim, output_dim) if self.levels == 3 else None
        # With one level its weight is 1 whatever the logit.
        self.level_logits = nn.Parameter(torch.zeros(self.levels)) if self.levels > 1 else None

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Climb the levels, predict at each, and combine."""
        present = stack_present(inputs)  # (B, M)
        vectors = self._unimodal_vectors(inputs)  # (B, M, H)
        unimodal = _predict_each(self.unimodal_output, vectors, present)  # (B, M, O)
        predictions, summaries = [_mean_present(unimodal, present)], [_mean_present(vectors, present)]
        if self.levels > 1:
            pairs, both = self._pair_vectors(vectors, present)  # (B, P, H), (B, P)
            predictions.append(_mean_present(_predict_each(self.pair_output, pairs, both), both))
            summaries.append(_mean_present(pairs, both))
            if self.all_fusion is not None and self.all_output is not None:
                summaries.append(self.all_fusion(pairs, both))
                predictions.append(self.all_output(summaries[-1]))
        available = present.sum(dim=1, keepdim=True) > torch.arange(self.levels, device=present.device)  # (B, L)
        logits = vectors.new_zeros(1) if self.level_logits is None else self.level_logits
        weights = masked_softmax(logits.expand(available.shape), available)
        return FusionOutput(
            prediction=torch.einsum("bl,blo->bo", weights, torch.stack(predictions, dim=1)),
            unimodal=dict(zip(self.modalities, unimodal.unbind(dim=1), strict=True)),
            representations={
                **dict(zip(self.modalities, vectors.unbind(dim=1), strict=True)),
                "fusion": _highest(torch.stack(summaries, dim=1), available),
            },
        )

    def _unimodal_vectors(self, inputs: dict[str, ModalitySequence]) -> Tensor:
        vectors = [
            torch.tanh(equalise(self.encoders[key](sequence))).masked_fill(~sequence.present.unsqueeze(-1), 0.0)
            for equalise, (key, sequence) in zip(self.equalise, inputs.items(), strict=True)
        ]
        return torch.stack(vectors, dim=1)

    def _pair_vectors(self, vectors: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Fused pairs `(B, P, H)` and which of them have both modalities `(B, P)`."""
        fused = [
            fusion(vectors[:, pair], present[:, pair])
            for fusion, pair in zip(self.pair_fusion, self.pairs, strict=True)
        ]
        both = torch.stack([present[:, first] & present[:, second] for first, second in self.pairs], dim=1)
        return torch.stack(fused, dim=1), both


def _predict_each(outputs: nn.ModuleList, vectors: Tensor, present: Tensor) -> Tensor:
    """One linear map per member, `(B, N, H)` → `(B, N, O)`; zeros where the member is missing."""
    each = torch.stack([output(vectors[:, n]) for n, output in enumerate(outputs)], dim=1)
    return each.masked_fill(~present.unsqueeze(-1), 0.0)


def _mean_present(members: Tensor, present: Tensor) -> Tensor:
    """`(B, N, H)` → `(B, H)`: mean over the members that are there; zeros where none is."""
    kept = members.masked_fill(~present.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)


def _highest(summaries: Tensor, available: Tensor) -> Tensor:
    """`(B, L, H)` → `(B, H)`: the summary of the highest level that a clip has."""
    level = (available.sum(dim=1) - 1).clamp(min=0)
    return summaries.gather(1, level[:, None, None].expand(-1, 1, summaries.shape[2])).squeeze(1)
