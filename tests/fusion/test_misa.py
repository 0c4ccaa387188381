"""MISA's losses on numbers worked out by hand, and what its subspaces and masks must do."""

from __future__ import annotations

import pytest
import torch

from fusion import testing
from fusion.misa import MISA
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 4, "vision": 2}
LENGTHS = {"audio": [5, 4, 6, 3], "text": [2, 3, 1, 4], "vision": [3, 0, 2, 2]}


def two_modalities(**weights: float) -> MISA:
    torch.manual_seed(0)
    return MISA({"audio": 2, "text": 2}, 1, hidden_dim=2, heads=1, **weights)


class TestLosses:
    def test_worked_out_by_hand(self) -> None:
        head = two_modalities(similarity_weight=1.0, difference_weight=1.0, reconstruction_weight=1.0)
        torch.nn.init.eye_(head.decoder.weight)
        torch.nn.init.zeros_(head.decoder.bias)
        up, right = [[0.0, 1.0], [0.0, -1.0]], [[1.0, 0.0], [-1.0, 0.0]]
        # (M, B, H), then clips first. Shared: both modalities along one direction, text twice as far.
        shared = torch.tensor([right, [[2.0, 0.0], [-2.0, 0.0]]]).transpose(0, 1)
        private = torch.tensor([up, right]).transpose(0, 1)
        unimodal = torch.zeros(2, 2, 2)
        losses = head.subspace_losses(unimodal, shared, private, torch.ones(2, 2, dtype=torch.bool))
        # Audio: unit vectors (+-1, 0) and (0, +-1), correlation 1 in one cell; text: the same direction, 1;
        # between the private ones: (0, +-1) and (+-1, 0), again one cell of 1.
        assert losses["difference"].item() == pytest.approx(3.0)
        # Means are equal (0); moments differ by 4 - 1 (second), 0, 16 - 1 (fourth), 0.
        assert losses["similarity"].item() == pytest.approx(18.0)
        # Audio decodes to (+-1, +-1): 1 on average; text to (+-3, 0): 9 / 2.
        assert losses["reconstruction"].item() == pytest.approx((1 + 4.5) / 2)

    def test_weights_scale_each_loss(self) -> None:
        vectors = [torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(k)) for k in range(3)]
        present = torch.ones(3, 2, dtype=torch.bool)
        plain = two_modalities(similarity_weight=1, difference_weight=1, reconstruction_weight=1)
        scaled = two_modalities(similarity_weight=2, difference_weight=3, reconstruction_weight=5)
        expected = plain.subspace_losses(*vectors, present)
        actual = scaled.subspace_losses(*vectors, present)
        for name, factor in {"similarity": 2, "difference": 3, "reconstruction": 5}.items():
            assert actual[name].item() == pytest.approx(factor * expected[name].item(), rel=1e-5)

    def test_a_pair_is_compared_over_the_clips_that_have_both(self) -> None:
        head = two_modalities()
        vectors = [torch.rand(4, 2, 2, generator=torch.Generator().manual_seed(k)) for k in range(3)]
        present = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
        losses = head.subspace_losses(*vectors, present)
        complete = head.subspace_losses(*(v[present.all(dim=1)] for v in vectors), present[present.all(dim=1)])
        assert losses["similarity"].item() == pytest.approx(complete["similarity"].item(), rel=1e-5)
        assert losses["reconstruction"].item() != pytest.approx(complete["reconstruction"].item(), rel=1e-3)

    def test_masked_positions_get_no_gradient_in_training(self) -> None:
        torch.manual_seed(0)
        head = MISA(DIMS, 2, dropout=0.0).train()
        batch = testing.ragged_batch(DIMS, LENGTHS)
        assert set(head({k: s.zeroed() for k, s in batch.items()}).losses) == {
            "similarity",
            "difference",
            "reconstruction",
        }
        testing.check_no_gradient_to_masked(head, batch)

    def test_one_modality_has_nothing_to_be_similar_to(self) -> None:
        head = MISA({"audio": 3}, 1).train()
        losses = head(testing.ragged_batch({"audio": 3}, {"audio": [2, 3]})).losses
        assert set(losses) == {"difference", "reconstruction"}


def test_shared_encoder_is_shared_and_private_ones_are_not() -> None:
    head = two_modalities().eval()
    head.encoders[1].load_state_dict(head.encoders[0].state_dict())
    sequence = testing.ragged_batch({"audio": 2}, {"audio": [3, 2]})["audio"]
    named = head({"audio": sequence, "text": sequence}).representations
    assert torch.equal(named["shared/audio"], named["shared/text"])
    assert not torch.allclose(named["private/audio"], named["private/text"])


def test_learns_to_share_and_to_separate() -> None:
    """One factor is in both modalities, one in each alone: training must lower all three losses together."""
    torch.manual_seed(0)
    common, own = torch.randn(64, 1), torch.randn(2, 64, 1)
    batch = {
        key: ModalitySequence(torch.cat([common, own[k]], dim=1).unsqueeze(1), torch.ones(64, 1).bool())
        for k, key in enumerate(("audio", "text"))
    }
    head = MISA({"audio": 2, "text": 2}, 1, hidden_dim=8, encoder="none", pooling="mean", dropout=0.0).train()
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    history = []
    for _ in range(150):
        output = head(batch)
        history.append({key: value.item() for key, value in output.losses.items()})
        optimiser.zero_grad()
        (torch.stack(list(output.losses.values())).sum() + (output.prediction - common).square().mean()).backward()
        optimiser.step()
    for name in ("similarity", "difference", "reconstruction"):
        assert history[-1][name] < 0.6 * history[0][name], name


def test_a_missing_modality_is_not_seen_by_the_others() -> None:
    """Removing vision from a clip gives what the attention gives over the four tokens left, not over zeros."""
    torch.manual_seed(0)
    head = MISA(DIMS, 1).eval()
    batch = testing.ragged_batch(DIMS, {key: [3, 2] for key in DIMS})
    left = {key: batch[key] for key in ("audio", "text")}
    named = head(left).representations
    tokens = torch.stack(
        [named["shared/audio"], named["shared/text"], named["private/audio"], named["private/text"]], 1
    )
    seen = head.transformer(tokens, torch.ones(2, 4, dtype=torch.bool)) * 6 / 4
    empty = torch.zeros(2, 1, seen.shape[-1])
    expected = torch.cat([seen[:, :2], empty, seen[:, 2:], empty], dim=1).flatten(1)
    torch.testing.assert_close(named["fusion"], expected)
