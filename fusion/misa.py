"""MISA: what modalities share and what each has for itself, in separate subspaces."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer
from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.joining import concatenate_present
from fusion.objectives import central_moment_discrepancy, difference_loss, reconstruction_loss
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class MISA(FusionHead):
    """Modality-invariant and -specific representations, fused by self-attention.

    Hazarika, Zimmermann & Poria, "MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment
    Analysis", ACM Multimedia 2020. Each modality's vector `u_m` is mapped to `h_m^c`, by an encoder shared by all
    modalities, and to `h_m^p`, by its own. Three losses shape the two subspaces, in training mode:

    - `"similarity"`: central moment discrepancy between the invariant vectors, mean over pairs of modalities;
    - `"difference"`: orthogonality of `h_m^c` and `h_m^p`, and of `h_m^p` and `h_n^p`, summed;
    - `"reconstruction"`: squared error of a shared decoder's `D(h_m^c + h_m^p)` against `u_m`, mean over modalities.

    A transformer layer lets the `2 M` vectors see each other; they are concatenated and mapped to the prediction.

    `representations` holds `u_m` by the modality's name, and for `"fusion"` the concatenation behind the
    transformer; `"shared/m"` and `"private/m"` are the two subspaces.

    Deviations: any number of modalities (one has no similarity loss); the vectors `u_m` come from the package's
    encoder (GRU with attention pooling) instead of stacked LSTMs and BERT; the transformer layer is pre-norm; the
    difference loss is normalised by the number of clips (see `difference_loss`). A missing modality is masked in
    the attention, left out of the losses and of the concatenation, whose other parts are scaled up.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of `u_m` and of both subspaces; a multiple of `heads`.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        heads: attention heads over the `2 M` vectors.
        moments: highest order of moments compared.
        similarity_weight: factor of `"similarity"`.
        difference_weight: factor of `"difference"`.
        reconstruction_weight: factor of `"reconstruction"`.
        dropout: in the encoders, the transformer and before the output.

    Raises:
        ValueError: `heads` does not divide `hidden_dim`.
    """

    name = "misa"
    family = "representation"
    paper = (
        'Hazarika, Zimmermann & Poria, "MISA: Modality-Invariant and -Specific Representations for Multimodal '
        'Sentiment Analysis", ACM Multimedia 2020'
    )
    own_losses = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        heads: int = 2,
        moments: int = 5,
        similarity_weight: float = 0.3,
        difference_weight: float = 0.1,
        reconstruction_weight: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        self.moments = moments
        self.similarity_weight = similarity_weight
        self.difference_weight = difference_weight
        self.reconstruction_weight = reconstruction_weight
        count = len(self.input_dims)
        self.encoders = nn.ModuleList(
            UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
            for dim in self.input_dims.values()
        )
        # A common scale for all modalities, before the encoder that they share.
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(count))
        self.shared = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.Sigmoid())
        self.private = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.Sigmoid()) for _ in range(count)
        )
        self.decoder = nn.Linear(hidden_dim, hidden_dim)
        self.transformer = TransformerLayer(hidden_dim, heads=heads, dropout=dropout)
        self.hidden = nn.Linear(2 * count * hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Split into subspaces, let them see each other, predict; losses in training mode only."""
        present = stack_present(inputs)  # (B, M)
        unimodal = self._encode(inputs)  # (B, M, H)
        shared = self.shared(unimodal)
        private = torch.stack([layer(unimodal[:, m]) for m, layer in enumerate(self.private)], dim=1)
        tokens, mask = torch.cat([shared, private], dim=1), torch.cat([present, present], dim=1)
        fused = concatenate_present(self.transformer(tokens, mask), mask)  # (B, 2 M H)
        prediction = self.output(self.dropout(torch.relu(self.hidden(fused))))
        named: dict[str, Tensor] = {"fusion": fused}
        for m, key in enumerate(inputs):
            there = present[:, m, None]
            named[key] = unimodal[:, m]
            named[f"shared/{key}"] = shared[:, m].masked_fill(~there, 0.0)
            named[f"private/{key}"] = private[:, m].masked_fill(~there, 0.0)
        losses = self.subspace_losses(unimodal, shared, private, present) if self.training else {}
        return FusionOutput(prediction=prediction, losses=losses, representations=named)

    def subspace_losses(self, unimodal: Tensor, shared: Tensor, private: Tensor, present: Tensor) -> dict[str, Tensor]:
        """The three losses, weighted.

        Args:
            unimodal: `u`, `(B, M, H)`.
            shared: `h^c`, `(B, M, H)`.
            private: `h^p`, `(B, M, H)`.
            present: `(B, M)` bool; a pair is compared over the clips that have both.
        """
        count = present.shape[1]
        pairs = list(combinations(range(count), 2))
        both = {(m, n): present[:, m] & present[:, n] for m, n in pairs}
        apart = [difference_loss(shared[:, m], private[:, m], present[:, m]) for m in range(count)]
        apart += [difference_loss(private[:, m], private[:, n], both[m, n]) for m, n in pairs]
        decoded = self.decoder(shared + private)
        rebuilt = [reconstruction_loss(unimodal[:, m], decoded[:, m], present[:, m]) for m in range(count)]
        losses = {
            "difference": self.difference_weight * torch.stack(apart).sum(),
            "reconstruction": self.reconstruction_weight * torch.stack(rebuilt).mean(),
        }
        if pairs:
            alike = [
                central_moment_discrepancy(shared[:, m], shared[:, n], self.moments, present=both[m, n])
                for m, n in pairs
            ]
            losses["similarity"] = self.similarity_weight * torch.stack(alike).mean()
        return losses

    def _encode(self, inputs: dict[str, ModalitySequence]) -> Tensor:
        """`(B, M, H)`; zeros where a modality is missing."""
        vectors = [
            norm(encoder(sequence)).masked_fill(~sequence.present.unsqueeze(-1), 0.0)
            for norm, encoder, sequence in zip(self.norms, self.encoders, inputs.values(), strict=True)
        ]
        return torch.stack(vectors, dim=1)
