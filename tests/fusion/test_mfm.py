"""MFM: who tells what. The label comes from the shared factor alone, the data from both kinds."""

from __future__ import annotations

import pytest
import torch

from fusion import testing
from fusion.mfm import MFM, SequenceDecoder
from fusion.objectives import maximum_mean_discrepancy
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 4, "vision": 2}
LENGTHS = {"audio": [5, 4, 6, 3], "text": [2, 3, 1, 4], "vision": [3, 0, 2, 2]}


def build(**options: float) -> MFM:
    torch.manual_seed(0)
    return MFM(DIMS, 2, hidden_dim=6, code_dim=3, dropout=0.0, **options).train()  # type: ignore[arg-type]


def batch() -> testing.Batch:
    return {key: s.zeroed() for key, s in testing.ragged_batch(DIMS, LENGTHS).items()}


def test_a_change_of_the_generative_factors_leaves_the_label_alone() -> None:
    head = build()
    before = head(batch())
    with torch.no_grad():
        for layer in (*head.own_codes.parameters(), *head.own_factors.parameters()):
            layer.add_(torch.randn_like(layer))
    after = head(batch())
    assert torch.equal(after.prediction, before.prediction)
    assert not torch.allclose(after.representations["text"], before.representations["text"])
    assert after.losses["reconstruction"] != before.losses["reconstruction"]


def test_each_modality_is_rebuilt_from_the_shared_factor_and_its_own_only() -> None:
    head = build()
    mask = torch.ones(4, 5, dtype=torch.bool)
    factors = {key: value.detach().requires_grad_() for key, value in head(batch()).representations.items()}
    head.rebuild("text", factors["text"], factors["fusion"], mask).square().sum().backward()
    assert (factors["text"].grad != 0).any()
    assert (factors["fusion"].grad != 0).any()
    # Through the head as a whole: vision's rebuilding does not reach audio's own factor.
    output = head(batch())
    loss = head.rebuild("vision", output.representations["vision"], output.representations["fusion"], mask).sum()
    own = head.own_factors[head.modalities.index("audio")][0].weight
    assert torch.autograd.grad(loss, own, allow_unused=True) == (None,)


def test_losses_are_the_weighted_sums_over_what_is_there() -> None:
    head, inputs = build(reconstruction_weight=0.5, prior_weight=3.0), batch()
    output = head(inputs)
    rebuilt, prior = 0.0, maximum_mean_discrepancy(output.representations["code"]).item()
    for m, (key, sequence) in enumerate(inputs.items()):
        rows = [row for row in range(4) if sequence.mask[row].any()]
        codes = head.own_codes[m](head.encoders[m](sequence))
        prior += maximum_mean_discrepancy(codes[rows]).item()
        errors = []
        for row in rows:
            length = int(sequence.lengths[row])
            made = head.rebuild(
                key,
                output.representations[key][row : row + 1],
                output.representations["fusion"][row : row + 1],
                torch.ones(1, length, dtype=torch.bool),
            )
            errors += ((made - sequence.values[row, :length]) ** 2).flatten().tolist()
        rebuilt += sum(errors) / len(errors) / 3
    assert output.losses["reconstruction"].item() == pytest.approx(0.5 * rebuilt, rel=1e-4)
    assert output.losses["prior"].item() == pytest.approx(3.0 * prior, rel=1e-4)


def test_masked_positions_get_no_gradient_in_training() -> None:
    testing.check_no_gradient_to_masked(build(), batch())


def test_prior_pulls_the_codes_to_a_standard_normal() -> None:
    torch.manual_seed(0)
    inputs = {"audio": ModalitySequence(5 + 4 * torch.randn(64, 1, 2), torch.ones(64, 1).bool())}
    head = MFM({"audio": 2}, 1, hidden_dim=8, code_dim=2, encoder="none", pooling="mean", dropout=0.0).train()
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)

    def moments() -> tuple[float, float]:
        codes = head.own_codes[0](head.encoders[0](inputs["audio"])).detach()
        return codes.mean(dim=0).abs().max().item(), (codes.std(dim=0) - 1).abs().max().item()

    assert max(moments()) > 1
    for _ in range(150):
        optimiser.zero_grad()
        head(inputs).losses["prior"].backward()
        optimiser.step()
    assert max(moments()) < 0.3


def test_decoder_rebuilds_a_course_over_time() -> None:
    """Two clips, a rising and a falling one: needs the factor and the position both."""
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 6).view(1, 6, 1)
    sequence, factors = torch.cat([ramp, -ramp]), torch.tensor([[1.0], [-1.0]])
    decoder, mask = SequenceDecoder(1, 8, 1), torch.ones(2, 6, dtype=torch.bool)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        loss = (decoder(factors, mask) - sequence).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02  # without the factor, or without the position, 0.47 (the mean square) is the best


def test_code_dim_must_be_positive() -> None:
    with pytest.raises(ValueError, match="code_dim must be at least 1, not 0"):
        MFM(DIMS, 1, code_dim=0)
