"""Self-MM: what the unimodal outputs learn from, and when. The label generator has its tests in test_objectives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fusion import testing
from fusion.output import FusionOutput
from fusion.self_mm import SelfMM
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 4}
LENGTHS = {"audio": [5, 4, 0, 3], "text": [2, 3, 1, 4]}
LABELS = torch.tensor([[2.0], [-1.0], [0.5], [-3.0]])
EVERYONE = torch.arange(4)


def build(output_dim: int = 1, **options: object) -> SelfMM:
    torch.manual_seed(0)
    return SelfMM(DIMS, output_dim, hidden_dim=6, dropout=0.0, **options).train()  # type: ignore[arg-type]


def batch(seed: int = 0) -> testing.Batch:
    return {key: s.zeroed() for key, s in testing.ragged_batch(DIMS, LENGTHS, seed=seed).items()}


def total(head: SelfMM, output: FusionOutput, target: Tensor, index: Tensor = EVERYONE) -> Tensor:
    return torch.stack(list(head.target_losses(output, target, index).values())).sum()


def test_loss_is_the_papers_on_the_generators_labels() -> None:
    head = build(label_range=3.0, unimodal_weight=0.5)
    with torch.no_grad():
        head.target_losses(head(batch()), LABELS, EVERYONE)
        output = head(batch(seed=1))
        losses = head.target_losses(output, LABELS, EVERYONE)
        for key, rows in {"audio": [0, 1, 3], "text": [0, 1, 2, 3]}.items():  # clip 2 has no audio
            expected = 0.0
            for row in rows:
                y_m, y_s = LABELS[row, 0].item(), head.generator.current(key, torch.tensor([row])).item()
                assert y_s != y_m
                expected += math.tanh(abs(y_s - y_m)) * abs(output.unimodal[key][row, 0].item() - y_s)
            assert losses[f"self_supervised_{key}"].item() == pytest.approx(0.5 * expected / len(rows) / 3, rel=1e-4)


def test_first_pass_over_a_clip_teaches_the_modalities_nothing() -> None:
    head = build()
    assert total(head, head(batch()), LABELS).item() == 0.0
    assert total(head, head(batch(seed=1)), LABELS).item() > 0.0
    # Clips that are new in the second epoch are in their first pass.
    assert total(head, head(batch()), LABELS, EVERYONE + 100).item() == 0.0
    assert head.generator.clips == 104


def test_label_reaches_unimodal_outputs_through_pseudo_labels_only() -> None:
    head = build(output_dim=3)
    output = head(batch())
    for key in DIMS:
        (gradient,) = torch.autograd.grad(output.unimodal[key].square().sum(), output.representations[key])
        torch.testing.assert_close(
            gradient[0],
            2 * output.unimodal[key][0, 1:] @ head.unimodal_outputs[list(DIMS).index(key)].weight[1:],
        )
    eager = head.eval()(batch()).unimodal["text"]
    assert eager.requires_grad
    torch.testing.assert_close(eager, output.unimodal["text"])


def test_the_generator_gets_no_gradient_and_is_not_saved() -> None:
    head = build()
    assert set(head.state_dict()) == {name for name, _ in head.named_parameters()}
    total(head, head(batch()), LABELS)
    loss = total(head, head(batch(seed=1)), LABELS)
    loss.backward()
    assert head.output.weight.grad is None  # pseudo-labels are targets, not a path to the multimodal branch
    assert head.fused.weight.grad is None
    assert (head.specific[0].weight.grad != 0).any()
    SelfMM(DIMS, 1, hidden_dim=6).load_state_dict(head.state_dict(), strict=True)


def test_unlabelled_clips_are_left_out() -> None:
    target = LABELS.clone()
    target[1] = float("nan")
    head = build()
    for seed in range(2):
        loss = total(head, head(batch(seed)), target)
        assert torch.isfinite(loss)
    assert head.generator.current("text", torch.tensor([1])).isnan().all()


def test_without_label_columns_there_is_no_self_supervision() -> None:
    head = build(output_dim=2, label_columns=())
    output = head(batch())
    assert head.target_losses(output, torch.zeros(4, 2), EVERYONE) == {}
    testing.check_trains(head, batch())


@pytest.mark.parametrize("columns", [(2,), (-1,), (0, 0)])
def test_bad_columns(columns: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"label_columns must be different outputs in 0\.\.1"):
        SelfMM(DIMS, 2, label_columns=columns)


def test_a_modality_that_contradicts_the_label_gets_its_own_label() -> None:
    """Text says what the label says; in three positive clips the face says the opposite."""
    torch.manual_seed(0)
    label = torch.cat([torch.full((20, 1), 2.0), torch.full((20, 1), -2.0)]) + 0.5 * torch.randn(40, 1)
    face = label.clone()
    face[:3] *= -1
    noise = 0.5 * torch.randn(2, 40, 2)
    inputs = {
        key: ModalitySequence((value * torch.ones(1, 2) + noise[k]).unsqueeze(1), torch.ones(40, 1).bool())
        for k, (key, value) in enumerate({"face": face, "text": label}.items())
    }
    head = SelfMM({"face": 2, "text": 2}, 1, hidden_dim=8, encoder="none", pooling="mean", dropout=0.0).train()
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(40):
        output = head(inputs)
        loss = (output.prediction - label).abs().mean() + total(head, output, label, torch.arange(40))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    made = {key: head.generator.current(key, torch.arange(40)) for key in ("face", "text")}
    assert made["text"][:3].mean() - made["face"][:3].mean() > 2
    assert made["face"][3:20].mean() - made["face"][:3].mean() > 1  # other positive clips' faces agree
    assert made["face"][20:].mean() < -1
