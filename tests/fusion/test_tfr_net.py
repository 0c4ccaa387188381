"""TFR-Net: what is dropped, what is reconstructed, and the gate against loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusion import testing
from fusion.sequence import ModalitySequence
from fusion.tfr_net import ConvolutionGate, CrossModalExtractor, TFRNet

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}


def build(**options: object) -> TFRNet:
    torch.manual_seed(0)
    return TFRNet(DIMS, 2, **{"hidden_dim": 8, "heads": 2, "dropout": 0.0, **options})


def smooth_l1(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def watch(head: TFRNet) -> tuple[dict[str, ModalitySequence], dict[str, Tensor]]:
    """What each extractor was given, and what each decoder gave, in the next forward pass."""
    given: dict[str, ModalitySequence] = {}
    decoded: dict[str, Tensor] = {}
    for key, extractor in head.extractors.items():
        extractor.register_forward_hook(lambda module, args, output, key=key: given.update({key: args[0]}))
    for key, decoder in head.decoders.items():
        decoder.register_forward_hook(lambda module, args, output, key=key: decoded.update({key: output}))
    return given, decoded


def test_reconstruction_is_the_mean_over_dropped_steps_only() -> None:
    head = build(drop_probability=0.4, reconstruction_weight=0.5).train()
    batch = {key: s.zeroed() for key, s in testing.ragged_batch(DIMS, LENGTHS, slack=2).items()}
    given, decoded = watch(head)
    loss = head(batch).losses["reconstruction"].item()
    per_modality = []
    for key, sequence in batch.items():
        errors = []
        for clip, step in sequence.mask.nonzero().tolist():
            if not given[key].mask[clip, step]:
                pairs = zip(decoded[key][clip, step].tolist(), sequence.values[clip, step].tolist(), strict=True)
                errors += [smooth_l1(a - b) for a, b in pairs]
        assert errors, "this seed drops nothing: pick another"
        per_modality.append(sum(errors) / len(errors))
    assert loss == pytest.approx(0.5 * sum(per_modality) / 3, rel=1e-4)


def test_dropped_content_has_no_influence_on_the_prediction() -> None:
    """A dropped step shapes the loss as a target, and nothing else."""
    head = build(drop_probability=0.5).train()
    batch = {key: s.zeroed() for key, s in testing.ragged_batch(DIMS, LENGTHS).items()}
    given, _ = watch(head)
    torch.manual_seed(5)
    first = head(batch)
    changed = {}
    for key, sequence in batch.items():
        dropped = (sequence.mask & ~given[key].mask).unsqueeze(-1)
        assert dropped.any()
        changed[key] = ModalitySequence(torch.where(dropped, sequence.values + 3.0, sequence.values), sequence.mask)
    torch.manual_seed(5)
    second = head(changed)
    assert torch.equal(first.prediction, second.prediction)
    assert not torch.allclose(first.losses["reconstruction"], second.losses["reconstruction"])


@pytest.mark.parametrize("probability", [0.1, 0.6])
def test_steps_are_dropped_at_the_stated_rate(probability: float) -> None:
    head = build(drop_probability=probability).train()
    batch = testing.ragged_batch(DIMS, {key: [60] * 100 for key in DIMS})
    given, _ = watch(head)
    head(batch)
    for sequence in given.values():
        rate = 1 - sequence.mask.float().mean().item()
        assert abs(rate - probability) < 5 * (probability * (1 - probability) / 6000) ** 0.5


def test_without_dropping_there_is_no_reconstruction() -> None:
    batch = testing.ragged_batch(DIMS, LENGTHS)
    assert build().eval()(batch).losses == {}
    whole = build(drop_probability=0.0).train()
    assert whole(batch).losses == {}
    assert not list(whole.decoders.parameters())
    with torch.no_grad():
        assert torch.equal(whole(batch).prediction, whole.eval()(batch).prediction)
    nothing = build(drop_probability=1e-9).train()
    assert nothing(batch).losses["reconstruction"].item() == 0


def test_the_same_generator_drops_the_same_steps() -> None:
    head = build(drop_probability=0.5).train()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(head(batch).prediction)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_the_gate_equals_its_definition() -> None:
    """g = sigmoid(conv(e)), u = tanh(W [e * g; h]), maximum over real steps; step by step."""
    torch.manual_seed(0)
    gate = ConvolutionGate(4, kernel=3).eval()
    sequence = testing.ragged_batch({"x": 4}, {"x": [5, 2, 0]}, slack=1)["x"].zeroed()
    with torch.no_grad():
        actual = gate(sequence)
        encoded = gate.encoder(sequence).values
        for clip, length in enumerate([5, 2]):
            steps = []
            for t in range(length):
                total = gate.gate.bias.clone()
                for offset in (-1, 0, 1):
                    if 0 <= t + offset < length:
                        total += gate.gate.weight[:, :, offset + 1] @ encoded[clip, t + offset]
                gated = encoded[clip, t] / (1 + torch.exp(-total))
                steps.append(torch.tanh(gate.mix(torch.cat([gated, sequence.values[clip, t]]))))
            assert torch.allclose(actual[clip], torch.stack(steps).max(dim=0).values, atol=1e-6)
    assert (actual[2] == 0).all()


def test_a_modality_without_visible_steps_leaves_the_linear_map() -> None:
    """The extractor with one other missing equals the one whose columns for it are gone."""
    torch.manual_seed(0)
    full = CrossModalExtractor(8, ("b", "c"), layers=1, heads=2, dropout=0.0).eval()
    less = CrossModalExtractor(8, ("b",), layers=1, heads=2, dropout=0.0).eval()
    less.intra.load_state_dict(full.intra.state_dict())
    less.inter["b"].load_state_dict(full.inter["b"].state_dict())
    with torch.no_grad():
        less.join.weight.copy_(full.join.weight[:, :16])
        less.join.bias.copy_(full.join.bias)
        batch = testing.ragged_batch({"a": 8, "b": 8, "c": 8}, {"a": [3], "b": [4], "c": [0]})
        batch = {key: s.zeroed() for key, s in batch.items()}
        assert torch.allclose(full(batch["a"], batch), less(batch["a"], batch), atol=1e-6)


def test_learns_to_reconstruct_a_dropped_step_from_another_modality() -> None:
    """Text repeats audio, whose steps are noise: a dropped step can only come from the other modality."""
    torch.manual_seed(0)
    dims = {"audio": 2, "text": 2}
    head = TFRNet(dims, 1, hidden_dim=32, heads=4, drop_probability=0.3, dropout=0.0).train()
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    mask = torch.ones(48, 4, dtype=torch.bool)
    recent = []
    for _ in range(250):
        values = torch.randn(48, 4, 2).clamp(-1.5, 1.5)
        loss = head({key: ModalitySequence(values, mask) for key in dims}).losses["reconstruction"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recent.append(loss.item())
    # The best guess from nothing is 0; 30 % of the twins are dropped, too, and stay a guess.
    blind = torch.nn.functional.smooth_l1_loss(torch.randn(10_000).clamp(-1.5, 1.5), torch.zeros(10_000)).item()
    assert sum(recent[-20:]) / 20 < 0.65 * blind


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"drop_probability must lie in \[0, 1\), not 1\.0: some steps must remain"):
        build(drop_probability=1.0)
    with pytest.raises(ValueError, match="kernel must be odd so that a step stays in the middle, not 4"):
        build(kernel=4)
    with pytest.raises(ValueError, match="layers must be at least 1, not 0"):
        build(layers=0)
