"""Self-MM: modality-specific representations, supervised by labels that the training makes for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.joining import concatenate_present
from fusion.objectives import PseudoLabelGenerator, clip_mean
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class SelfMM(FusionHead):
    """Late fusion of representations with one self-supervised task per modality.

    Yu, Xu, Yuan & Wu, "Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for
    Multimodal Sentiment Analysis", AAAI 2021. The fused vector is `F_m = ReLU(W [F_1; ...; F_M])`, each modality's
    own is `F_s = ReLU(W_s F_s')`; both have a linear output. The multimodal output learns from the label, each
    unimodal one from a pseudo-label `y_s` that `PseudoLabelGenerator` derives from where the clip lies between the
    positive and the negative clips of that modality. The unimodal loss is `tanh|y_s - y_m| * |prediction - y_s|`:
    clips whose modality disagrees with the whole count most, and in the first epoch, where `y_s = y_m`, none does.

    The losses come from `target_losses`, named `"self_supervised_<modality>"`. They belong to the columns
    `label_columns`; in training mode `unimodal` holds these columns detached, so that an outer loop that supervises
    unimodal outputs with the clip's label does not pull them away from their pseudo-labels. It still teaches the
    other columns, for which the paper has no pseudo-labels.

    Each training clip's state is kept in the generator: it grows at first use, is indexed by `target_losses`'
    `index`, and is in no state dict.

    Deviations: any modalities; the package's encoder (GRU with attention pooling) instead of BERT and LSTMs, with
    one learning rate for all; losses are in units of `label_range`, as wide labels should not count more; a missing
    modality has no pseudo-label and drops out of the concatenation, whose other parts are scaled up.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of all representations.
        label_columns: outputs that are signed scores, such as sentiment, and get pseudo-labels; none of them when
            empty, which leaves plain multi-task learning.
        label_range: largest absolute value of such a label (3 for MOSI, 1 for CH-SIMS).
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        unimodal_weight: factor of the unimodal losses.
        dropout: in the encoders and on the representations.

    Raises:
        ValueError: a label column that is no output, or is named twice.
    """

    name = "self_mm"
    family = "representation"
    paper = (
        'Yu, Xu, Yuan & Wu, "Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning '
        'for Multimodal Sentiment Analysis", AAAI 2021'
    )
    own_losses = True
    detached: Tensor

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        label_columns: Sequence[int] = (0,),
        label_range: float = 3.0,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        unimodal_weight: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        columns = tuple(label_columns)
        if not set(columns) <= set(range(output_dim)) or len(set(columns)) < len(columns):
            raise ValueError(f"label_columns must be different outputs in 0..{output_dim - 1}, not {columns}")
        self.label_columns = columns
        self.label_range = label_range
        self.unimodal_weight = unimodal_weight
        count = len(self.input_dims)
        self.encoders = nn.ModuleList(
            UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
            for dim in self.input_dims.values()
        )
        self.dropout = nn.Dropout(dropout)
        self.fused = nn.Linear(count * hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)
        self.specific = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(count))
        self.unimodal_outputs = nn.ModuleList(nn.Linear(hidden_dim, output_dim) for _ in range(count))
        self.generator = PseudoLabelGenerator(
            {"fusion": hidden_dim, **dict.fromkeys(self.input_dims, hidden_dim)},
            columns=len(columns),
            label_range=label_range,
        )
        supervised = torch.tensor([column in columns for column in range(output_dim)])
        self.register_buffer("detached", supervised, persistent=False)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict together and alone; `representations["present"]` `(B, M)` is 1 where a modality is there."""
        present = stack_present(inputs)  # (B, M)
        encoded = [encoder(sequence) for encoder, sequence in zip(self.encoders, inputs.values(), strict=True)]
        return self.predict(dict(zip(inputs, encoded, strict=True)), torch.stack(encoded, dim=1), present)

    def predict(self, alone: Mapping[str, Tensor], together: Tensor, present: Tensor) -> FusionOutput:
        """From vectors to predictions, representations and unimodal outputs.

        Args:
            alone: per modality `(B, H)`: what its own prediction comes from.
            together: `(B, M, H)`: what the fused prediction comes from.
            present: `(B, M)` bool.
        """
        fused = torch.relu(self.fused(self.dropout(concatenate_present(together, present))))
        named = {"fusion": fused, "present": present.to(fused.dtype)}
        unimodal = {}
        for m, (key, vector) in enumerate(alone.items()):
            missing = ~present[:, m, None]
            named[key] = torch.relu(self.specific[m](self.dropout(vector))).masked_fill(missing, 0.0)
            own = self.unimodal_outputs[m](named[key]).masked_fill(missing, 0.0)
            unimodal[key] = torch.where(self.detached, own.detach(), own) if self.training else own
        return FusionOutput(prediction=self.output(fused), unimodal=unimodal, representations=named)

    def target_losses(self, output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The unimodal losses on pseudo-labels; moves the clips' pseudo-labels on by one pass."""
        if not self.label_columns:
            return {}
        columns = list(self.label_columns)
        named = output.representations
        label = target[:, columns]  # (B, C)
        present = {key: named["present"][:, m] > 0 for m, key in enumerate(self.modalities)}
        spaces = {key: named[key].detach() for key in self.generator.names}
        pseudo = self.generator(index, spaces, present, label)
        return {
            f"self_supervised_{key}": self._unimodal_loss(m, named[key], pseudo[key], label)
            for m, key in enumerate(self.modalities)
        }

    def _unimodal_loss(self, m: int, representation: Tensor, pseudo: Tensor, label: Tensor) -> Tensor:
        valid = torch.isfinite(pseudo).all(dim=-1)  # (B,)
        pseudo, label = (x.masked_fill(~valid.unsqueeze(-1), 0.0) for x in (pseudo, label))
        # From the representation again, as `unimodal` holds these columns detached.
        predicted = self.unimodal_outputs[m](representation)[:, list(self.label_columns)]
        disagreement = torch.tanh((pseudo - label).abs())
        loss = (disagreement * (predicted - pseudo).abs()).mean(dim=-1) / self.label_range
        return self.unimodal_weight * clip_mean(loss, valid)
