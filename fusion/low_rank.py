"""Low-rank fusion: tensor fusion with a weight tensor in factors, so that the tensor is never built (LMF)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence
from fusion.tensor import append_one


class LowRankProduct(nn.Module):
    """`sum_r prod_m (W_m^r z_m) + b`: a linear map of the outer product of all `z_m`, in M * R thin factors.

    Liu et al. 2018, section 3.3 ("low-rank fusion with modality-specific factors"): the map's weight tensor is
    `sum_r (w_1^r x ... x w_M^r)`, and the sum over it is taken modality by modality.

    Deviation: the factors' rows for the appended 1 start at 1 and the bias at minus the rank. So the product starts
    close to a sum over modalities; with small random rows a product of three starts close to zero and trains slowly.

    Args:
        dims: size of each vector with its 1 appended.
        output_dim: size of the result.
        rank: number R of terms.
    """

    def __init__(self, dims: Sequence[int], output_dim: int, rank: int) -> None:
        super().__init__()
        self.factors = nn.ParameterList(nn.Parameter(_near_neutral(rank, dim, output_dim)) for dim in dims)
        self.bias = nn.Parameter(torch.full((output_dim,), -float(rank)))

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """One `(B, d_m)` per modality, in the order of `dims` → `(B, output_dim)`."""
        product: Tensor | None = None
        for vector, factor in zip(vectors, self.factors, strict=True):
            term = torch.einsum("bd,rdo->bro", vector, factor)
            product = term if product is None else product * term
        if product is None:
            raise ValueError("nothing to multiply: give one vector per factor")
        return product.sum(dim=1) + self.bias


class LowRankFusion(FusionHead):
    """The linear map of tensor fusion, decomposed into modality-specific low-rank factors.

    Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", ACL 2018, section 3. The cost
    is linear in the number of modalities; the same function as `TensorFusion`'s tensor followed by one linear map,
    whose weight has rank at most `rank`. All factors are parameters and train.

    A missing modality gets `z_m = [0; 1]`: it multiplies the others by the row of its factor that belongs to the 1.

    Deviations: any number of modalities; sequences are read by `encoder` and `pooling` in all of them; the fused
    vector `h` has `hidden_dim` entries and is followed by a linear output, where the released code lets `h` be the
    output; the starting values, see `LowRankProduct`.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of the unimodal vectors and of the fused vector.
        rank: number of terms.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        dropout: on the unimodal vectors.

    Raises:
        ValueError: `rank` below 1; unknown `encoder` or `pooling`.
    """

    name = "lmf"
    family = "tensor"
    paper = (
        'Liu, Shen, Lakshminarasimhan, Liang, Zadeh & Morency, "Efficient Low-rank Multimodal Fusion with '
        'Modality-Specific Factors", ACL 2018'
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
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.product = LowRankProduct([hidden_dim + 1] * len(self.input_dims), hidden_dim, rank)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Encode, fuse by factors, predict."""
        vectors: dict[str, Tensor] = {key: self.encoders[key](sequence) for key, sequence in inputs.items()}
        fused = self.product([append_one(vector) for vector in vectors.values()])
        return FusionOutput(prediction=self.output(fused), representations={**vectors, "fusion": fused})


def _near_neutral(rank: int, dim: int, output_dim: int) -> Tensor:
    """`(R, d, O)`: normal rows of variance `1 / d`, and ones in the last row."""
    rows = torch.randn(rank, dim - 1, output_dim) * dim**-0.5
    return torch.cat([rows, torch.ones(rank, 1, output_dim)], dim=1)
