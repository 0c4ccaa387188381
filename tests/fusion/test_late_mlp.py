"""LF-DNN against its layers, and what its presence flags are for."""

from __future__ import annotations

import torch

from fusion import LateMLPFusion
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "text": 3}


def test_against_its_layers() -> None:
    torch.manual_seed(0)
    head = LateMLPFusion(DIMS, 2, hidden_dim=4).eval()
    batch = ragged_batch(DIMS, {"audio": [4, 0], "text": [2, 3]})
    output = head(batch)
    first, second = head.perceptron[0], head.perceptron[3]
    for row, flags in enumerate([[1.0, 1.0], [0.0, 1.0]]):
        audio, text = (output.representations[key][row] for key in ("audio", "text"))
        x = torch.cat([audio * flags[0], text, torch.tensor(flags)])
        hidden = [max(0.0, float(w @ x + b)) for w, b in zip(first.weight, first.bias, strict=True)]
        hidden = [
            max(0.0, float(w @ torch.tensor(hidden) + b)) for w, b in zip(second.weight, second.bias, strict=True)
        ]
        torch.testing.assert_close(output.representations["fusion"][row], torch.tensor(hidden))
        torch.testing.assert_close(output.prediction[row], head.output(torch.tensor(hidden)))


def test_absence_is_a_learned_vector() -> None:
    """With the encoder silenced, a present modality differs from a missing one by its flag, and by nothing else."""
    torch.manual_seed(0)
    head = LateMLPFusion(DIMS, 1, hidden_dim=4).eval()
    for parameter in head.encoders["audio"].parameters():
        parameter.data.zero_()
    batch = ragged_batch(DIMS, {"audio": [4], "text": [2]})
    hidden: list[torch.Tensor] = []
    head.perceptron[0].register_forward_hook(lambda _, __, out: hidden.append(out))
    head(batch)
    head(without(batch, ["audio"]))
    torch.testing.assert_close(hidden[0] - hidden[1], head.perceptron[0].weight[:, 8].unsqueeze(0))
    assert (hidden[0] != hidden[1]).any()
