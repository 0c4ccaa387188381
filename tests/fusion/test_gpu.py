"""Every head on a CUDA device: the CPU's numbers, and a training step. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from fusion import testing
from fusion.catalog import head_class, head_classes
from fusion.modality_dropout import ModalityDropout

DIMS = {"audio": 3, "text": 6, "vision": 4}
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def make_batch(*, aligned: bool) -> testing.Batch:
    ragged = {"audio": [9, 7, 1, 8], "text": [4, 1, 6, 3], "vision": [5, 0, 2, 7]}
    batch = testing.ragged_batch(DIMS, {key: [4, 1, 6, 3] for key in DIMS} if aligned else ragged)
    return {key: sequence.zeroed() for key, sequence in batch.items()}


@pytest.mark.parametrize("name", list(head_classes()))
def test_same_numbers_as_on_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    head = head_class(name)(input_dims=DIMS, output_dim=2).eval()
    batch = make_batch(aligned=head.needs_alignment)
    with torch.no_grad():
        expected = testing.per_clip_tensors(head(batch))
        moved = {key: sequence.to("cuda") for key, sequence in batch.items()}
        actual = testing.per_clip_tensors(head.to("cuda")(moved))
    for key, tensor in expected.items():
        torch.testing.assert_close(actual[key].cpu(), tensor, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", list(head_classes()))
def test_trains(name: str) -> None:
    torch.manual_seed(0)
    head = head_class(name)(input_dims=DIMS, output_dim=2).to("cuda").train()
    dropout = ModalityDropout(head, 0.5).to("cuda")
    batch = {key: s.to("cuda") for key, s in make_batch(aligned=head.needs_alignment).items()}
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        target, index = torch.ones(4, 2, device="cuda"), torch.arange(4, device="cuda")
        loss = testing.training_loss(head, dropout.drop(batch), target, index)
        assert torch.isfinite(loss)
        loss.backward()
        optimiser.step()
