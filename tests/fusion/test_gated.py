from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion import testing
from fusion.gated import GatedFusion
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 5, "vision": 4}


def naive_unit(head: GatedFusion, vectors: dict[str, Tensor], names: list[str]) -> tuple[Tensor, dict[str, float]]:
    """The unit on one clip, feature by feature, with modalities not in `names` missing."""
    size = head.hidden_dim
    joint = torch.cat([vectors[key] if key in names else torch.zeros(size) for key in head.modalities])
    hidden = {key: torch.tanh(head.transforms[key](vectors[key])) for key in names}
    scores = {key: head.gates[key](joint) for key in names}
    fused, mass = torch.zeros(size), dict.fromkeys(names, 0.0)
    for feature in range(size):
        if head.gate_kind == "softmax":
            total = sum(scores[key][feature].exp() for key in names)
            gates = {key: scores[key][feature].exp() / total for key in names}
            scale = 1.0
        else:
            gates = {key: 1 / (1 + (-scores[key][feature]).exp()) for key in names}
            scale = len(head.modalities) / len(names)
        for key in names:
            fused[feature] += scale * gates[key] * hidden[key][feature]
            mass[key] += float(gates[key])
    return fused, {key: value / sum(mass.values()) for key, value in mass.items()}


@pytest.mark.parametrize("gates", ["softmax", "sigmoid"])
def test_equals_a_naive_unit(gates: str) -> None:
    torch.manual_seed(0)
    head = GatedFusion(DIMS, 2, hidden_dim=6, gates=gates).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [4, 3, 0], "text": [2, 5, 1], "vision": [3, 0, 0]})
    with torch.no_grad():
        output = head(batch)
        for row in range(3):
            names = [key for key in DIMS if batch[key].present[row]]
            clip = testing.take_clip(batch, row)
            vectors = {key: head.encoders[key](clip[key].zeroed())[0] for key in DIMS}
            fused, shares = naive_unit(head, vectors, names)
            torch.testing.assert_close(output.representations["fusion"][row], fused, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(output.prediction[row], head.output(fused), atol=1e-5, rtol=1e-5)
            for key in DIMS:
                assert float(output.weights[key][row]) == pytest.approx(shares.get(key, 0.0), abs=1e-6)


def test_two_softmax_gates_are_the_bimodal_unit() -> None:
    """`h = z * h_a + (1 - z) * h_b` with `z = sigmoid(W_z [x_a; x_b])`, as the paper has it for two modalities."""
    torch.manual_seed(0)
    head = GatedFusion({"audio": 3, "text": 5}, 1, hidden_dim=6).eval()
    batch = testing.ragged_batch(head.input_dims, {"audio": [4, 2], "text": [3, 3]})
    with torch.no_grad():
        output = head(batch)
        joint = torch.cat([head.encoders[key](batch[key].zeroed()) for key in head.modalities], dim=1)
        weight = head.gates["audio"].weight - head.gates["text"].weight
        bias = head.gates["audio"].bias - head.gates["text"].bias
        z = torch.sigmoid(joint @ weight.T + bias)
    expected = z * output.representations["audio"] + (1 - z) * output.representations["text"]
    torch.testing.assert_close(output.representations["fusion"], expected)


@pytest.mark.parametrize("gates", ["softmax", "sigmoid"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int, gates: str) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(GatedFusion(dims, 1, hidden_dim=8, gates=gates), batch)


@pytest.mark.parametrize("gates", ["softmax", "sigmoid"])
def test_keeps_the_contract_with_either_gate(gates: str) -> None:
    torch.manual_seed(0)
    head = GatedFusion(DIMS, 1, hidden_dim=6, gates=gates)
    batch = testing.ragged_batch(DIMS, {"audio": [4, 3, 0], "text": [2, 5, 1], "vision": [3, 0, 0]})
    testing.check_padding_blind(head, batch)
    testing.check_missing_proof(head, batch)


def test_one_modality_counts_fully() -> None:
    head = GatedFusion({"text": 5}, 1, hidden_dim=6).eval()
    output = head(testing.ragged_batch({"text": 5}, {"text": [3]}))
    assert output.weights["text"].tolist() == [1.0]
    assert torch.equal(output.representations["fusion"], output.representations["text"])


def test_unknown_gates_are_named() -> None:
    with pytest.raises(ValueError, match="gates must be one of softmax, sigmoid, not 'relu'"):
        GatedFusion(DIMS, 1, gates="relu")  # type: ignore[arg-type]


def test_learns_which_modality_to_trust(fit: Callable[..., float]) -> None:
    """Text says which of audio and vision holds the label; the other holds noise. No sum of the two can tell."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (64, 3), generator=generator).float() * 2 - 1
    trusted, audio, vision = signs.unbind(dim=1)
    target = torch.where(trusted > 0, audio, vision).unsqueeze(-1)
    columns = {"audio": audio, "text": trusted, "vision": vision}
    batch = {
        key: ModalitySequence(column[:, None, None], torch.ones(64, 1, dtype=torch.bool))
        for key, column in columns.items()
    }
    torch.manual_seed(0)
    head = GatedFusion(dict.fromkeys(columns, 1), 1, hidden_dim=16, encoder="none", dropout=0.0)
    # The best sum of functions of single modalities leaves an error of 1/2.
    assert fit(head, (batch, target), rate=2e-2) < 0.05
    weights = head(batch).weights
    assert weights["audio"][trusted > 0].mean() > weights["audio"][trusted < 0].mean() + 0.1
