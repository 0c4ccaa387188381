"""Modality dropout keeps its law, and does nothing in eval mode."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusion import testing
from fusion.catalog import head_class, head_classes
from fusion.head import FusionHead, stack_present
from fusion.modality_dropout import ModalityDropout
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}


class PresenceOnly(FusionHead):
    """Predicts which modalities it saw, one output each."""

    name, family, paper = "presence", "late", "Nobody, 2026"

    def __init__(self) -> None:
        super().__init__(DIMS, len(DIMS))
        self.scale = nn.Parameter(torch.ones(()))

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        return FusionOutput(stack_present(inputs).float() * self.scale)


def presence_batch(present: list[list[bool]]) -> testing.Batch:
    lengths = {key: [int(row[column]) for row in present] for column, key in enumerate(DIMS)}
    return testing.ragged_batch(DIMS, lengths)


def batch_for(head: FusionHead) -> testing.Batch:
    lengths = {key: [4, 1, 6, 3] for key in DIMS} if head.needs_alignment else LENGTHS
    return testing.ragged_batch(DIMS, lengths)


def subset_law(probabilities: list[float]) -> dict[tuple[bool, ...], float]:
    """Probability of every surviving subset, by walking through all coin tosses."""
    law: dict[tuple[bool, ...], float] = {}
    for kept in product((False, True), repeat=len(probabilities)):
        chance = prod(1 - p if keep else p for keep, p in zip(kept, probabilities, strict=True))
        if any(kept):
            law[kept] = law.get(kept, 0.0) + chance
            continue
        for spared in range(len(kept)):
            alone = tuple(column == spared for column in range(len(kept)))
            law[alone] = law.get(alone, 0.0) + chance / len(kept)
    return law


@pytest.mark.parametrize("probabilities", [[0.3, 0.3, 0.3], [0.9, 0.5, 0.7], [1.0, 1.0, 1.0], [0.0, 1.0, 0.4]])
def test_every_subset_comes_as_often_as_the_law_says(probabilities: list[float]) -> None:
    clips = 40_000
    dropout = ModalityDropout(PresenceOnly(), dict(zip(DIMS, probabilities, strict=True))).train()
    torch.manual_seed(0)
    seen = dropout(presence_batch([[True] * 3] * clips)).prediction > 0
    for subset, chance in subset_law(probabilities).items():
        rate = (seen == torch.tensor(subset)).all(dim=1).float().mean().item()
        # Five standard deviations of a binomial rate: never by chance, and tight enough to see another law.
        assert abs(rate - chance) <= 5 * (chance * (1 - chance) / clips) ** 0.5 + 1e-9, (subset, rate, chance)


def test_the_documented_rate_of_one_modality() -> None:
    """1 - p_m + (product of all p) / n is the law's marginal."""
    probabilities = [0.9, 0.5, 0.7]
    law = subset_law(probabilities)
    for column, p in enumerate(probabilities):
        marginal = sum(chance for subset, chance in law.items() if subset[column])
        assert marginal == pytest.approx(1 - p + prod(probabilities) / 3)


def test_only_what_is_there_draws_lots() -> None:
    """Where audio is missing and all are dropped, text and vision are spared half of the time each."""
    clips = 20_000
    dropout = ModalityDropout(PresenceOnly(), 1.0).train()
    torch.manual_seed(0)
    rates = dropout(presence_batch([[False, True, True]] * clips)).prediction.mean(dim=0)
    assert rates[0].item() == 0
    assert rates[1:].tolist() == pytest.approx([0.5, 0.5], abs=5 * 0.5 / clips**0.5)


@settings(max_examples=60, deadline=None)
@given(
    present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6),
    probability=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_never_empties_a_clip_and_never_adds(present: list[list[bool]], probability: float, seed: int) -> None:
    dropout = ModalityDropout(PresenceOnly(), probability).train()
    torch.manual_seed(seed)
    before = torch.tensor(present)
    after = stack_present(dropout.drop(presence_batch(present)))
    assert not (after & ~before).any()
    assert torch.equal(after.any(dim=1), before.any(dim=1))
    single = before.sum(dim=1) == 1
    assert torch.equal(after[single], before[single])


def test_a_modality_stays_whole_or_goes_whole() -> None:
    dropout = ModalityDropout(PresenceOnly(), 0.5)
    batch = testing.ragged_batch(DIMS, LENGTHS)
    torch.manual_seed(3)
    dropped = dropout.drop(batch)
    changed = 0
    for key, sequence in dropped.items():
        assert sequence.values is batch[key].values
        for row in range(4):
            whole = torch.equal(sequence.mask[row], batch[key].mask[row])
            assert whole or not sequence.mask[row].any()
            changed += not whole
    assert changed > 0


def test_a_modality_left_out_stays_left_out() -> None:
    dropout = ModalityDropout(PresenceOnly(), 1.0).train()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    del batch["audio"]
    torch.manual_seed(0)
    assert set(dropout.drop(batch)) == {"text", "vision"}
    assert (dropout(batch).prediction.sum(dim=1) == 1).all()


def test_modalities_without_a_probability_are_never_dropped() -> None:
    dropout = ModalityDropout(PresenceOnly(), {"audio": 1.0}).train()
    seen = dropout(presence_batch([[True] * 3] * 50)).prediction
    assert (seen[:, 0] == 0).all()
    assert (seen[:, 1:] == 1).all()


def test_bad_probabilities_are_named() -> None:
    with pytest.raises(ValueError, match=r"dropping audio must lie in \[0, 1\], not 1\.5"):
        ModalityDropout(PresenceOnly(), {"audio": 1.5})
    with pytest.raises(ValueError, match="names smell, but the head fuses audio, text, vision"):
        ModalityDropout(PresenceOnly(), {"smell": 0.5})
    with pytest.raises(ValueError, match="built for audio, text, vision and was given smell"):
        ModalityDropout(PresenceOnly()).train()({"smell": testing.ragged_batch({"smell": 2}, {"smell": [1]})["smell"]})


@pytest.mark.parametrize("name", list(head_classes()))
def test_eval_mode_is_the_head_itself(name: str) -> None:
    torch.manual_seed(0)
    head = head_class(name)(input_dims=DIMS, output_dim=2)
    dropout = ModalityDropout(head, 1.0).eval()
    batch = batch_for(head)
    state = torch.get_rng_state()
    with torch.no_grad():
        expected = testing.per_clip_tensors(head(batch))
        torch.set_rng_state(state)
        actual = testing.per_clip_tensors(dropout(batch))
    assert all(torch.equal(actual[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", list(head_classes()))
def test_only_kept_modalities_get_a_gradient(name: str) -> None:
    """Around every head: dropped rows get none, and of each clip at least one kept modality gets some."""
    torch.manual_seed(0)
    head = head_class(name)(input_dims=DIMS, output_dim=2)
    with torch.no_grad():  # opens gates that start at zero
        for parameter in head.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    dropout = ModalityDropout(head, 0.6).train()
    batch = batch_for(head)
    leaves = {key: torch.nan_to_num(s.values).requires_grad_() for key, s in batch.items()}
    inputs = {key: ModalitySequence(leaves[key], batch[key].mask) for key in batch}
    torch.manual_seed(7)
    kept = stack_present(dropout.drop(inputs))
    torch.manual_seed(7)
    output = dropout(inputs)
    # A weight per output, because a head may end in a normalisation whose sum does not move.
    (output.prediction @ torch.tensor([1.0, -0.7])).sum().backward()
    gradient = torch.stack([leaves[key].grad.abs().amax(dim=(1, 2)) for key in sorted(leaves)], dim=1)
    assert not torch.equal(kept, stack_present(inputs)), "the draw of this seed drops nothing: pick another"
    assert (gradient[~kept] == 0).all()
    assert (gradient.amax(dim=1) > 0).all()
