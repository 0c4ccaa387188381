"""Tensor fusion: the outer product of all modality vectors, each with a 1 appended (TFN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence

DEFAULT_ENTRIES = 5000
"""The tensor's size when `tensor_dim` is not given stays at or below this."""

MOST_ENTRIES = 2**20
"""Largest tensor per clip that is accepted; more is a mistake, or a case for `LowRankFusion`."""


def append_one(vector: Tensor) -> Tensor:
    """`(B, H)` → `(B, H + 1)`: the vector with a 1 behind it, which carries the lower-order interactions."""
    return torch.cat([vector, torch.ones_like(vector[:, :1])], dim=1)


def outer_product(vectors: Sequence[Tensor]) -> Tensor:
    """`(B, d_1)`, ..., `(B, d_M)` → `(B, d_1 * ... * d_M)`: flat outer product, the last index runs fastest.

    Example:
        >>> outer_product([torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0, 7.0, 1.0]])])
        tensor([[10., 14.,  2.,  5.,  7.,  1.]])
    """
    product = vectors[0]
    for vector in vectors[1:]:
        product = (product.unsqueeze(2) * vector.unsqueeze(1)).flatten(1)
    return product


class TensorFusion(FusionHead):
    """Outer product of `[h_m; 1]` over all modalities, then a network on its entries.

    Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP 2017, section 3 (modality
    embedding subnetworks, tensor fusion layer, sentiment inference subnetwork). With `z_m = [h_m; 1]` the product
    of all `z_m` holds every entry of every modality, every product of two, and so on up to all modalities at once.

    A missing modality gets `z_m = [0; 1]`, the neutral element: what remains is exactly the tensor of the other
    modalities, in its place among zeros.

    Deviations: any number of modalities; sequences are read by `encoder` and `pooling` in all modalities (the source
    averages audio and vision, and reads text with an LSTM); smaller vectors than the source's 32, 32 and 128 (see
    `tensor_dim`), for its tensor of 140,481 entries is most of its parameters; a linear output, without the
    source's squashing to the range of the labels.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of the encoders and of the two layers after the tensor.
        tensor_dim: size of each `h_m`. When None, the largest up to `hidden_dim` for which the tensor has no more
            than 5,000 entries: 16 for three modalities.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        dropout: on the unimodal vectors and on the tensor.

    Raises:
        ValueError: a `tensor_dim` below 1 or a tensor beyond 2^20 entries; unknown `encoder` or `pooling`.
    """

    name = "tfn"
    family = "tensor"
    paper = (
        'Zadeh, Chen, Poria, Cambria & Morency, "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP 2017'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        tensor_dim: int | None = None,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        count = len(self.input_dims)
        self.tensor_dim = default_tensor_dim(count, hidden_dim) if tensor_dim is None else tensor_dim
        entries = _checked_entries(self.tensor_dim, count)
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.embed = nn.ModuleDict({key: nn.Linear(hidden_dim, self.tensor_dim) for key in self.modalities})
        self.inference = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(entries, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
        )
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Embed, multiply out, predict."""
        vectors = {key: self._embedded(key, sequence) for key, sequence in inputs.items()}
        fused = self.inference(outer_product([append_one(vector) for vector in vectors.values()]))
        return FusionOutput(prediction=self.output(fused), representations={**vectors, "fusion": fused})

    def _embedded(self, key: str, sequence: ModalitySequence) -> Tensor:
        vector = torch.relu(self.embed[key](self.encoders[key](sequence)))
        return vector.masked_fill(~sequence.present.unsqueeze(-1), 0.0)


def default_tensor_dim(modalities: int, most: int) -> int:
    """The largest vector size, up to `most`, whose tensor stays within `DEFAULT_ENTRIES`; at least 1.

    Example:
        >>> [default_tensor_dim(modalities, 64) for modalities in (1, 2, 3, 4)]
        [64, 64, 16, 7]
    """
    fitting = [size for size in range(1, most + 1) if (size + 1) ** modalities <= DEFAULT_ENTRIES]
    return fitting[-1] if fitting else 1


def _checked_entries(tensor_dim: int, modalities: int) -> int:
    if tensor_dim < 1:
        raise ValueError(f"tensor_dim must be at least 1, not {tensor_dim}")
    entries: int = (tensor_dim + 1) ** modalities
    if entries > MOST_ENTRIES:
        raise ValueError(
            f"{modalities} modalities of tensor_dim {tensor_dim} make a tensor of {entries} entries per clip, more "
            f"than {MOST_ENTRIES}: lower tensor_dim, or use LowRankFusion, which never builds the tensor"
        )
    return entries
