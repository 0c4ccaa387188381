"""Mean and spread of an encoder's hidden states as it starts: what the normaliser behind it is fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mmsa.steps import Moments

if TYPE_CHECKING:
    from mmsa.data import SplitData
    from mmsa.encoders.encoder import Encoder

CLIPS = 1024
"""So many clips, evenly spread over the split, tell enough of a mean and a spread."""

_BATCH = 16


@torch.no_grad()
def encoder_moments(encoder: Encoder, data: SplitData, modality: str) -> Moments:
    """Sums over the hidden states of at most `CLIPS` clips, in evaluation mode.

    Args:
        encoder: on the device of the split.
        data: the training split.
        modality: whose raw steps it reads.
    """
    column = list(data.tables).index(modality)
    lengths = data.lengths[:, column]
    have = np.flatnonzero(lengths)
    chosen = have[np.linspace(0, len(have) - 1, min(len(have), CLIPS)).round().astype(np.int64)]
    chosen = chosen[np.argsort(-lengths[chosen], kind="stable")]
    total, squares = (torch.zeros(encoder.dim, dtype=torch.float64, device=data.device) for _ in range(2))
    count = 0
    was_training = encoder.training
    encoder.eval()
    for start in range(0, len(chosen), _BATCH):
        part = chosen[start : start + _BATCH]
        found = encoder(data.steps[modality].gather(data.starts[modality][part], lengths[part]))
        real = found.values[found.mask].double()
        total += real.sum(dim=0)
        squares += real.square().sum(dim=0)
        count += len(real)
    encoder.train(was_training)
    return Moments(count, total, squares)
