"""CENET: the text's states are shifted by what they find in the long range of the other modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import Attention, TransformerLayer
from fusion.encoders import EncoderName
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.pooling import masked_mean
from fusion.primary import choose_primary
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, prepend


class CrossModalEnhancement(nn.Module):
    """The cross-modal enhancement unit: the shift of each text state.

    `shift_t = sum_m W_m concat_heads(softmax(Q_m h_t (K_m X_m)^T / sqrt(d)) V_m X_m)`: every text state attends to
    all steps of every other modality. The sum of output maps is the linear map of the concatenation of what was
    found; the term of a missing modality is 0.

    Args:
        hidden_dim: size `H` of all states.
        others: the modalities that are not text.
        heads: attention heads.
        dropout: on the attention weights.
    """

    def __init__(self, hidden_dim: int, others: tuple[str, ...], *, heads: int, dropout: float) -> None:
        super().__init__()
        self.attentions = nn.ModuleDict({key: Attention(hidden_dim, heads=heads, dropout=dropout) for key in others})

    def forward(self, states: Tensor, others: Mapping[str, ModalitySequence]) -> Tensor:
        """`(B, T, H)` → the shift `(B, T, H)`."""
        shift = torch.zeros_like(states)
        for key, attention in self.attentions.items():
            shift = shift + attention(states, others[key].values, others[key].mask)
        return shift


class CENET(FusionHead):
    """Cross-modal enhancement network.

    Text runs through transformer layers; between two of them every text state is shifted by a cross-modal
    enhancement unit, which relates it to all steps of the other modalities. The state of a token in front of the
    text predicts. That token is there in every clip: where the text is missing it alone is shifted, and the others
    speak through it. Where the others are missing the shift is 0 and the head is a text model.

    Wang et al., "Cross-Modal Enhancement Network for Multimodal Sentiment Analysis", IEEE Transactions on
    Multimedia 2023, the cross-modal enhancement module.

    Deviations: the paper puts the unit into a pre-trained BERT; here text comes as features, and the layers around
    the unit are this head's own. It turns visual and acoustic steps into words of a vocabulary by clustering, to
    bring them near to BERT's input; here a recurrent encoder brings them to the text's size. Attention logits are
    scaled by `1 / sqrt(d)` per head. Any modality may be the primary one, and any number of others enhance it.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        primary: the modality that is enhanced; `"text"` if present, else the first modality, when None.
        hidden_dim: size of a state; a multiple of `heads`.
        layers: transformer layers over the text.
        enhance_after: how many of them run before the unit.
        encoder: sequence encoder of every modality before all that.
        heads: attention heads.
        max_steps: longer clips are pooled to this many steps.
        dropout: in all layers.

    Raises:
        ValueError: `layers` below 1, `enhance_after` not in `[0, layers)`, or an unknown `primary`.
    """

    name = "cenet"
    family = "representation"
    paper = (
        'Wang et al., "Cross-Modal Enhancement Network for Multimodal Sentiment Analysis", IEEE Transactions on '
        "Multimedia 2023"
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        primary: str | None = None,
        hidden_dim: int = 64,
        layers: int = 2,
        enhance_after: int = 1,
        encoder: EncoderName = "gru",
        heads: int = 4,
        max_steps: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if layers < 1:
            raise ValueError(f"layers must be at least 1, not {layers}")
        if not 0 <= enhance_after < layers:
            raise ValueError(
                f"enhance_after must lie in [0, {layers}), so that a layer reads the shifted states, "
                f"not {enhance_after}"
            )
        self.primary = choose_primary(self.modalities, primary)
        others = tuple(key for key in self.modalities if key != self.primary)
        self.enhance_after = enhance_after
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, encoder=encoder, dropout=dropout)
        self.front = nn.Parameter(torch.randn(1, hidden_dim) * hidden_dim**-0.5)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_dim, heads=heads, feedforward_dim=2 * hidden_dim, dropout=dropout)
            for _ in range(layers)
        )
        self.enhancement = CrossModalEnhancement(hidden_dim, others, heads=heads, dropout=dropout)
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Read the text, shift its states by what the others say, read on, and predict from the token in front."""
        tokens = self.tokens(inputs)
        text = prepend(self.front, tokens[self.primary])
        states = text.values
        for depth, layer in enumerate(self.layers):
            if depth == self.enhance_after:
                states = states + self.enhancement(states, tokens)
            states = layer(states, text.mask)
        fused = self.norm(states[:, 0])
        vectors = {key: masked_mean(sequence) for key, sequence in tokens.items()}
        return FusionOutput(self.output(fused), representations={**vectors, "fusion": fused})
