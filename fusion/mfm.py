"""MFM: one factor that tells the label, and one per modality that tells the rest of its data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import sinusoidal_positions
from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.joining import concatenate_present
from fusion.memory import two_layers
from fusion.objectives import maximum_mean_discrepancy, reconstruction_loss
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class SequenceDecoder(nn.Module):
    """Rebuilds a modality's steps from one vector per clip.

    Args:
        factor_dim: features of the vector.
        hidden_dim: size of the hidden layer.
        output_dim: features per step.
    """

    def __init__(self, factor_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.factor = nn.Linear(factor_dim, hidden_dim)
        self.position = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.output = nn.Linear(hidden_dim, output_dim)

    def forward(self, factors: Tensor, mask: Tensor) -> Tensor:
        """`(B, factor_dim)` and `(B, T)` → `(B, T, output_dim)`; masked steps hold nothing of meaning."""
        steps = self.position(sinusoidal_positions(mask, self.hidden_dim))
        out: Tensor = self.output(torch.relu(self.factor(factors).unsqueeze(1) + steps))
        return out


class MFM(FusionHead):
    """Multimodal Factorization Model.

    Tsai, Liang, Zadeh, Morency & Salakhutdinov, "Learning Factorized Multimodal Representations", ICLR 2019. An
    encoder infers latent codes: `Z_y` from all modalities, and `Z_m` from each alone. Networks turn them into the
    discriminative factor `F_y` and the generative factors `F_m`. The label comes from `F_y` only; each modality is
    rebuilt from `F_y` and its own `F_m`. Two losses, in training mode:

    - `"reconstruction"`: squared error of each modality's rebuilt steps, mean over modalities;
    - `"prior"`: maximum mean discrepancy of the codes from a standard normal, summed over codes.

    `representations` holds `F_m` by the modality's name and `F_y` as `"fusion"`; `"code"` is `Z_y`.

    Deviations: the paper's multimodal encoder is a Memory Fusion Network over aligned steps; here `Z_y` comes from
    the modalities' summary vectors side by side, so unaligned input is taken. The encoders of `Z_y` and `Z_m`
    share a sequence encoder per modality. The decoders rebuild all steps at once from the factors and the step's
    position, instead of one after the other with an LSTM. Every code is compared with the prior by itself, not all
    codes jointly, so that a missing modality can be left out. Missing modalities are masked, not imputed.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of the summary vectors, of hidden layers and of `F_y`.
        code_dim: size of every latent code, and of `F_m`.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        reconstruction_weight: factor of `"reconstruction"`.
        prior_weight: factor of `"prior"`.
        dropout: in the encoders and the networks.

    Raises:
        ValueError: `code_dim` below 1.
    """

    name = "mfm"
    family = "representation"
    paper = 'Tsai, Liang, Zadeh, Morency & Salakhutdinov, "Learning Factorized Multimodal Representations", ICLR 2019'
    own_losses = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        code_dim: int = 32,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        reconstruction_weight: float = 0.1,
        prior_weight: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if code_dim < 1:
            raise ValueError(f"code_dim must be at least 1, not {code_dim}")
        self.reconstruction_weight = reconstruction_weight
        self.prior_weight = prior_weight
        dims = list(self.input_dims.values())
        self.encoders = nn.ModuleList(
            UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout) for dim in dims
        )
        self.shared_code = two_layers(len(dims) * hidden_dim, hidden_dim, code_dim, dropout)
        self.shared_factor = two_layers(code_dim, hidden_dim, hidden_dim, dropout)
        self.own_codes = nn.ModuleList(nn.Linear(hidden_dim, code_dim) for _ in dims)
        self.own_factors = nn.ModuleList(two_layers(code_dim, hidden_dim, code_dim, dropout) for _ in dims)
        self.decoders = nn.ModuleList(SequenceDecoder(code_dim + hidden_dim, hidden_dim, dim) for dim in dims)
        self.output = two_layers(hidden_dim, hidden_dim, output_dim, dropout)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Infer the codes, predict from the shared one; losses in training mode only."""
        present = stack_present(inputs)  # (B, M)
        summaries = [encoder(sequence) for encoder, sequence in zip(self.encoders, inputs.values(), strict=True)]
        code = self.shared_code(concatenate_present(torch.stack(summaries, dim=1), present))
        factor = self.shared_factor(code)
        own_codes = [layer(summary) for layer, summary in zip(self.own_codes, summaries, strict=True)]
        named = {"fusion": factor, "code": code}
        for m, key in enumerate(inputs):
            named[key] = self.own_factors[m](own_codes[m]).masked_fill(~present[:, m, None], 0.0)
        losses = {}
        if self.training:
            losses["prior"] = self.prior_weight * self.prior_loss(code, own_codes, present)
            losses["reconstruction"] = self.reconstruction_weight * self.rebuilding_loss(inputs, named)
        return FusionOutput(prediction=self.output(factor), losses=losses, representations=named)

    def rebuild(self, key: str, own_factor: Tensor, shared_factor: Tensor, mask: Tensor) -> Tensor:
        """One modality's steps `(B, T, D)` from its own factor, the shared one, and which steps there are."""
        decoder = self.decoders[self.modalities.index(key)]
        steps: Tensor = decoder(torch.cat([own_factor, shared_factor], dim=-1), mask)
        return steps

    def rebuilding_loss(self, inputs: Mapping[str, ModalitySequence], named: Mapping[str, Tensor]) -> Tensor:
        """Mean over modalities of the squared error per real step and feature, unweighted."""
        losses = [
            reconstruction_loss(
                sequence.values, self.rebuild(key, named[key], named["fusion"], sequence.mask), sequence.mask
            )
            for key, sequence in inputs.items()
        ]
        return torch.stack(losses).mean()

    @staticmethod
    def prior_loss(code: Tensor, own_codes: list[Tensor], present: Tensor) -> Tensor:
        """Distance of every code from the prior, summed, unweighted; clips without a modality are left out."""
        losses = [maximum_mean_discrepancy(code, present=present.any(dim=1))]
        losses += [maximum_mean_discrepancy(own, present=present[:, m]) for m, own in enumerate(own_codes)]
        return torch.stack(losses).sum()
