"""Early fusion: the sequence that the encoder sees, worked by hand, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fusion import EarlyFusion, FusionHead, ModalitySequence
from fusion.testing import Batch, check_missing_proof, check_padding_blind, ragged_batch, without


def ramp(*values: float) -> torch.Tensor:
    return torch.tensor(values).unsqueeze(-1)


def test_the_concatenated_sequence() -> None:
    head = EarlyFusion({"text": 1, "audio": 1, "vision": 1}, 1, grid_steps=2)
    inputs = {
        "audio": ModalitySequence.pad([ramp(0.0, 1.0, 2.0, 3.0), ramp(8.0, 9.0)]),
        "text": ModalitySequence.pad([ramp(5.0), ramp(1.0, 2.0, 6.0)]),
        "vision": ModalitySequence.pad([ramp(7.0, 7.0), torch.zeros(0, 1)]),
    }
    seen = head.concatenated(inputs)
    # Columns: audio, text, vision, then whether audio, text, vision are there. Text of three steps on two cells:
    # (1 * 1 + 0.5 * 2) / 1.5 and (0.5 * 2 + 1 * 6) / 1.5.
    expected = torch.tensor(
        [
            [[0.5, 5.0, 7.0, 1.0, 1.0, 1.0], [2.5, 5.0, 7.0, 1.0, 1.0, 1.0]],
            [[8.0, 2.0 / 1.5, 0.0, 1.0, 1.0, 0.0], [9.0, 7.0 / 1.5, 0.0, 1.0, 1.0, 0.0]],
        ]
    )
    torch.testing.assert_close(seen.values, expected)
    assert seen.mask.all()


def test_aligned_inputs_keep_their_steps() -> None:
    """Columns: audio, text, then whether audio, text are there. The second clip's audio lacks the middle step."""
    head = EarlyFusion({"text": 1, "audio": 1}, 1, grid_steps=None)
    assert head.needs_alignment
    mask = torch.tensor([[True, True, False], [True, False, True]])
    inputs = {
        "audio": ModalitySequence(torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 4.0]]).unsqueeze(-1), mask).zeroed(),
        "text": ModalitySequence.pad([ramp(5.0, 6.0), ramp(7.0, 8.0, 9.0)]),
    }
    seen = head.concatenated(inputs)
    expected = torch.tensor(
        [
            [[1.0, 5.0, 1.0, 1.0], [2.0, 6.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]],
            [[3.0, 7.0, 1.0, 1.0], [0.0, 8.0, 0.0, 1.0], [4.0, 9.0, 1.0, 1.0]],
        ]
    )
    torch.testing.assert_close(seen.values, expected)
    assert seen.mask.tolist() == [[True, True, False], [True, True, True]]
    with pytest.raises(ValueError, match="needs aligned modalities"):
        head({"audio": ModalitySequence.pad([ramp(1.0)]), "text": ModalitySequence.pad([ramp(1.0, 2.0)])})


def test_aligned_inputs_on_a_grid_of_their_own_length_are_the_same() -> None:
    torch.manual_seed(0)
    dims = {"audio": 2, "text": 3}
    head = EarlyFusion(dims, 2, hidden_dim=8, grid_steps=5).eval()
    batch = ragged_batch(dims, {"audio": [5, 5, 0], "text": [5, 5, 5]})
    on_grid = head(batch).prediction
    head.grid_steps, head.needs_alignment = None, True
    torch.testing.assert_close(head(batch).prediction, on_grid)


@pytest.mark.parametrize("check", [check_padding_blind, check_missing_proof])
def test_aligned_inputs_keep_the_contract(check: Callable[[FusionHead, Batch], None]) -> None:
    torch.manual_seed(0)
    dims = {"audio": 2, "text": 3}
    head = EarlyFusion(dims, 2, hidden_dim=8, grid_steps=None)
    check(head, ragged_batch(dims, {"audio": [4, 1, 6, 3], "text": [4, 1, 6, 3]}))


@pytest.mark.parametrize("encoder", ["lstm", "gru", "transformer"])
def test_absence_is_not_a_vector_of_zeros(encoder: str) -> None:
    torch.manual_seed(0)
    dims = {"text": 3, "vision": 2}
    head = EarlyFusion(dims, 1, hidden_dim=8, encoder=encoder).eval()  # type: ignore[arg-type]
    batch = ragged_batch(dims, {"text": [4], "vision": [5]})
    batch["vision"] = ModalitySequence(torch.zeros(1, 5, 2), torch.ones(1, 5, dtype=torch.bool))
    measured, absent = head(batch).prediction, head(without(batch, ["vision"])).prediction
    assert (measured - absent).abs().item() > 1e-3


@pytest.mark.parametrize("factor", [2, 3])
def test_sampling_every_modality_faster_changes_nothing(factor: int) -> None:
    torch.manual_seed(0)
    dims = {"audio": 2, "text": 3}
    head = EarlyFusion(dims, 2, hidden_dim=8, grid_steps=5).eval()
    lengths = {"audio": [7, 2], "text": [3, 4]}
    batch = ragged_batch(dims, lengths)
    faster = {
        key: ModalitySequence(s.values.repeat_interleave(factor, dim=1), s.mask.repeat_interleave(factor, dim=1))
        for key, s in batch.items()
    }
    torch.testing.assert_close(head(faster).prediction, head(batch).prediction, atol=1e-5, rtol=1e-4)


def test_learns_what_happens_at_the_same_time() -> None:
    """The target is whether the two modalities move together: each alone, and each one's mean, say nothing."""
    torch.manual_seed(0)
    clips, steps = 96, 6
    audio = torch.randint(0, 2, (clips, steps, 1)) * 2.0 - 1.0
    together = torch.tensor([1.0, -1.0]).repeat(clips // 2).view(-1, 1, 1)
    full = torch.ones(clips, steps, dtype=torch.bool)
    inputs = {"audio": ModalitySequence(audio, full), "vision": ModalitySequence(audio * together, full)}
    head = EarlyFusion({"audio": 1, "vision": 1}, 1, hidden_dim=16, encoder="gru", grid_steps=steps, dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(120):
        optimiser.zero_grad()
        (head(inputs).prediction - together.view(-1, 1)).square().mean().backward()
        optimiser.step()
    assert (head(inputs).prediction.sign() == together.view(-1, 1)).all()


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="grid_steps must be at least 1, not 0"):
        EarlyFusion({"text": 2}, 1, grid_steps=0)
    with pytest.raises(ValueError, match="one of lstm, gru, transformer, not 'none'"):
        EarlyFusion({"text": 2}, 1, encoder="none")  # type: ignore[arg-type]
