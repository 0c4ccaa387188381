"""Gated multimodal units: per-feature gates decide how much of each modality gets through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import masked_softmax
from fusion.readout import present_sum
from fusion.sequence import ModalitySequence

GateName = Literal["softmax", "sigmoid"]


class GatedFusion(FusionHead):
    """Gated multimodal unit over one vector per modality.

    Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR Workshop 2017. Each
    modality's vector `x_m (B, H)` gives `h_m = tanh(W_m x_m)` and gates `z_m` from all vectors side by side; the
    unit returns `sum_m z_m * h_m`.

    - `gates="softmax"`: the gates of a feature sum to 1 over modalities. For two modalities this is the paper's
      bimodal unit, `z = sigmoid(a_1 - a_2)` and `1 - z`; for more it is that unit's natural extension.
    - `gates="sigmoid"`: the paper's unit for many modalities, `z_m = sigmoid(a_m)`, independent of each other.

    `weights` are the gates' mean over features, as shares of their sum.

    Deviations:
        - A missing modality has no gate: it drops out of the softmax; with sigmoid gates the sum over the others
          is scaled up by M / present. To the other gates it contributes nothing.
        - The gates have biases. Encoders and the linear classifier stand in for the paper's own.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of each modality's vector and of the unit.
        gates: how gates relate to each other.
        encoder: sequence encoder per modality.
        pooling: how its steps become one vector.
        dropout: on the vectors and on the unit's output.

    Raises:
        ValueError: unknown `gates`.
    """

    name = "gmu"
    family = "attention"
    paper = 'Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR Workshop 2017'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        gates: GateName = "softmax",
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if gates not in get_args(GateName):
            raise ValueError(f"gates must be one of {', '.join(get_args(GateName))}, not {gates!r}")
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.gate_kind = gates
        self.hidden_dim = hidden_dim
        self.transforms = nn.ModuleDict({key: nn.Linear(hidden_dim, hidden_dim) for key in self.modalities})
        # A softmax over one modality is 1 whatever its gate says, so there is none.
        gated = () if gates == "softmax" and len(self.modalities) == 1 else self.modalities
        joint_dim = hidden_dim * len(self.modalities)
        self.gates = nn.ModuleDict({key: nn.Linear(joint_dim, hidden_dim) for key in gated})
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations` are the `h_m` and the unit's output."""
        vectors = {key: encoder(inputs[key]) for key, encoder in self.encoders.items()}
        present = stack_present(inputs)
        hidden = {key: torch.tanh(self.transforms[key](vector)) for key, vector in vectors.items()}
        gates = self._gates(torch.cat(list(vectors.values()), dim=-1), present)  # (B, M, H)
        gated = [gate * hidden[key] for key, gate in zip(hidden, gates.unbind(dim=1), strict=True)]
        # Softmax gates already sum to 1 over what is there.
        fused = torch.stack(gated).sum(dim=0) if self.gate_kind == "softmax" else present_sum(gated, present)
        shares = gates.mean(dim=-1)
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
        shown = {key: hidden[key] * inputs[key].present.unsqueeze(-1) for key in hidden}
        return FusionOutput(
            self.output(self.dropout(fused)),
            weights=dict(zip(self.modalities, shares.unbind(dim=1), strict=True)),
            representations={**shown, "fusion": fused},
        )

    def _gates(self, joint: Tensor, present: Tensor) -> Tensor:
        """`(B, M, H)` in [0, 1], zeros for missing modalities."""
        there = present.unsqueeze(-1)  # (B, M, 1)
        if not self.gates:
            return there.expand(-1, -1, self.hidden_dim).to(joint.dtype)
        scores = torch.stack([gate(joint) for gate in self.gates.values()], dim=1)
        if self.gate_kind == "sigmoid":
            return torch.sigmoid(scores) * there
        return masked_softmax(scores.transpose(1, 2), present.unsqueeze(1)).transpose(1, 2)
