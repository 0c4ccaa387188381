"""Co-attention: one affinity matrix per pair of modalities guides the attention of both."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import masked_softmax
from fusion.readout import present_sum
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens


class CoAttentionFusion(FusionHead):
    """Parallel co-attention through affinity matrices.

    Lu et al., "Hierarchical Question-Image Co-Attention for Visual Question Answering", NeurIPS 2016, section 3.3
    (parallel co-attention). For two modalities `X_a (T_a, H)` and `X_b (T_b, H)`, with steps in rows:

    - affinity `C = tanh(X_a W_ab X_b^T) (T_a, T_b)`;
    - `H_a = tanh(X_a W_a + C (X_b W_b))`, `H_b = tanh(X_b W_b + C^T (X_a W_a))`: one matrix, both directions;
    - weights of the steps `softmax(H_a w_a)`, and the attended vector is the weighted sum of `X_a`'s rows;
    - `tanh(W (x_a + x_b))` predicts.

    Deviations:
        - Any number of modalities: a step's guidance is the mean over the other modalities that are there. One
          modality alone, in a clip or in the head, has no guidance and is pooled by `softmax(tanh(X W) w)`.
        - The guidance is a mean over the other's real steps where the paper sums, or the tanh would saturate over
          hundreds of audio steps.
        - One level instead of the paper's word, phrase and question levels. The last sum runs over the modalities
          that are there, scaled up by M / present.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of a token.
        encoder: sequence encoder per modality, before co-attention.
        max_steps: most tokens per modality; longer ones are pooled.
        dropout: in encoders and before the output.
    """

    name = "co_attention"
    family = "attention"
    paper = (
        'Lu et al., "Hierarchical Question-Image Co-Attention for Visual Question Answering", NeurIPS 2016 '
        "(parallel co-attention)"
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        max_steps: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        names = self.modalities
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, encoder=encoder, dropout=dropout)
        self.affinities = nn.ModuleDict(
            {f"{a}<->{b}": nn.Linear(hidden_dim, hidden_dim, bias=False) for a, b in combinations(names, 2)}
        )
        self.maps = nn.ModuleDict({key: nn.Linear(hidden_dim, hidden_dim, bias=False) for key in names})
        self.scores = nn.ModuleDict({key: nn.Linear(hidden_dim, 1, bias=False) for key in names})
        self.joint = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations` are the attended vectors and the fused one."""
        tokens = self.tokens(inputs)
        attended = {
            key: torch.einsum("bt,bth->bh", weights, tokens[key].values)
            for key, weights in self.step_weights(tokens).items()
        }
        fused = torch.tanh(self.joint(present_sum(list(attended.values()), stack_present(inputs))))
        return FusionOutput(self.output(self.dropout(fused)), representations={**attended, "fusion": fused})

    def step_weights(self, tokens: Mapping[str, ModalitySequence]) -> dict[str, Tensor]:
        """Per modality `(B, T_m)`, summing to 1 over real steps: how much each step counts, given the others."""
        mapped = {key: self.maps[key](sequence.values) for key, sequence in tokens.items()}
        guidance = {key: torch.zeros_like(value) for key, value in mapped.items()}
        partners = {key: sum(s.present.long() for k, s in tokens.items() if k != key) for key in tokens}
        for a, b in combinations(self.modalities, 2):
            affinity = self._affinity(tokens[a], tokens[b], self.affinities[f"{a}<->{b}"])
            guidance[a] = guidance[a] + _step_mean(affinity, mapped[b], tokens[b])
            guidance[b] = guidance[b] + _step_mean(affinity.transpose(1, 2), mapped[a], tokens[a])
        weights = {}
        for key, sequence in tokens.items():
            count = torch.as_tensor(partners[key]).clamp(min=1).view(-1, 1, 1)
            hidden = torch.tanh(mapped[key] + guidance[key] / count)
            weights[key] = masked_softmax(self.scores[key](hidden).squeeze(-1), sequence.mask)
        return weights

    @staticmethod
    def _affinity(a: ModalitySequence, b: ModalitySequence, weight: nn.Module) -> Tensor:
        """`(B, T_a, T_b)` in [-1, 1]; zeros where either step is masked, as its token is zero."""
        return torch.tanh(torch.bmm(weight(a.values), b.values.transpose(1, 2)))


def _step_mean(affinity: Tensor, mapped: Tensor, source: ModalitySequence) -> Tensor:
    """`(B, T, S)` and `(B, S, H)` → `(B, T, H)`: what the source's real steps say, by affinity, on average."""
    return torch.bmm(affinity, mapped) / source.lengths.clamp(min=1)[:, None, None]
