"""Tucker fusion: a multilinear map in a Tucker decomposition whose core has bounded rank (MUTAN)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class TuckerFusion(FusionHead):
    """Project every modality, contract with a rank-constrained core, map to the output.

    Ben-younes et al., "MUTAN: Multimodal Tucker Fusion for Visual Question Answering", ICCV 2017, sections 3.1 and
    3.2. The weight tensor of a multilinear map is decomposed into one factor matrix per input (`W_m`), a core, and a
    factor matrix of the output (`W_o`). Each slice of the core is a sum of `rank` products of vectors, so with
    `x_m = tanh(W_m h_m)` the fused vector is

    `z = sum_r prod_m (M_m^r x_m)`, every product elementwise, and the prediction is `W_o z`.

    The core is never built: its parameters grow with the number of modalities, not with the power of it. Where
    `LowRankFusion` factors the map of the vectors themselves, this one first projects them to a space of its own.

    A missing modality drops out of the product.

    Deviations: any number of modalities, where the source has a question and an image. The maps `M_m^r` have a bias,
    which acts as a 1 appended to `x_m` and keeps the interactions of lower order; it starts at 1 and the offset that
    this gives is taken from the output's bias, so that the product starts close to a sum over modalities.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of the unimodal vectors, of their projections, and of `z`.
        rank: bound R on the rank of the core's slices.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        dropout: on the unimodal vectors and on their projections.

    Raises:
        ValueError: `rank` below 1; unknown `encoder` or `pooling`.
    """

    name = "tucker"
    family = "tensor"
    paper = (
        'Ben-younes, Cadene, Cord & Thome, "MUTAN: Multimodal Tucker Fusion for Visual Question Answering", ICCV 2017'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        rank: int = 4,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}")
        self.rank = rank
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.project = nn.ModuleDict({key: nn.Linear(hidden_dim, hidden_dim) for key in self.modalities})
        self.core = nn.ModuleDict({key: nn.Linear(hidden_dim, rank * hidden_dim) for key in self.modalities})
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, output_dim)
        self._start_near_neutral()

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Encode, project, contract, predict."""
        vectors: dict[str, Tensor] = {key: self.encoders[key](sequence) for key, sequence in inputs.items()}
        fused = self.contract(
            {key: torch.tanh(self.project[key](vector)) for key, vector in vectors.items()}, stack_present(inputs)
        )
        return FusionOutput(prediction=self.output(fused), representations={**vectors, "fusion": fused})

    def contract(self, projected: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Contract the core with the projections.

        Args:
            projected: `(B, H)` per modality, in the order of `modalities`.
            present: `(B, M)` bool.

        Returns:
            `z (B, H)`.
        """
        clips, dim = next(iter(projected.values())).shape
        product = torch.ones_like(next(iter(projected.values()))).unsqueeze(1)  # (B, 1, H)
        for key, here in zip(self.modalities, present.unbind(dim=1), strict=True):
            factor = self.core[key](self.dropout(projected[key])).view(clips, self.rank, dim)
            product = product * torch.where(here[:, None, None], factor, torch.ones_like(factor))
        return product.sum(dim=1)

    def _start_near_neutral(self) -> None:
        for core in self.core.values():
            core.bias = nn.Parameter(torch.ones(self.rank * self.output.in_features))
        offset = self.rank * self.output.weight.detach().sum(dim=1)
        self.output.bias = nn.Parameter(self.output.bias.detach() - offset)
