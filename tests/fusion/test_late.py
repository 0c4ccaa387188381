"""Late fusion against its formula, worked by hand and by loops."""

from __future__ import annotations

import math

import pytest
import torch

from fusion import LateFusion, ModalitySequence
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "text": 3, "vision": 2}
LOGITS = [0.3, -1.0, 2.0]
LENGTHS = {"audio": [4, 2, 3], "text": [1, 5, 2], "vision": [3, 0, 2]}


def plain_head(**options: object) -> LateFusion:
    """A head whose encoder is a linear map and a mean, so that loops can follow it."""
    torch.manual_seed(0)
    return LateFusion(DIMS, 2, hidden_dim=4, encoder="none", pooling="mean", **options).eval()  # type: ignore[arg-type]


def unimodal_by_loop(head: LateFusion, key: str, sequence: ModalitySequence, row: int) -> tuple[list, list]:
    """The vector and the prediction of one clip, from the parameters, one real step at a time."""
    values = dict(head.named_parameters())
    weight = values[f"predictors.{key}.encoder.encoder.project.weight"]
    bias = values[f"predictors.{key}.encoder.encoder.project.bias"]
    real = [sequence.values[row, t] for t in range(sequence.mask.shape[1]) if sequence.mask[row, t]]
    vector = sum((weight @ step + bias for step in real), start=torch.zeros(4)) / len(real)
    prediction = values[f"predictors.{key}.output.weight"] @ vector + values[f"predictors.{key}.output.bias"]
    return vector.tolist(), prediction.tolist()


def score_by_loop(head: LateFusion, key: str, vector: list) -> float:
    """What goes into the softmax for one modality of one clip."""
    if head.combination == "learned":
        return LOGITS[sorted(DIMS).index(key)]
    if head.combination == "mean":
        return 0.0
    gate = head.gates[key]
    return sum(w * h for w, h in zip(gate.weight[0].tolist(), vector, strict=True)) + gate.bias.item()


@pytest.mark.parametrize("combination", ["learned", "gated", "mean"])
def test_against_loops(combination: str) -> None:
    head = plain_head(combination=combination)
    if head.logits is not None:
        head.logits.data = torch.tensor(LOGITS)
    batch = ragged_batch(DIMS, LENGTHS)
    output = head(batch)
    for row in range(3):
        there = [key for key in DIMS if batch[key].present[row]]
        found = {key: unimodal_by_loop(head, key, batch[key], row) for key in there}
        scores = {key: score_by_loop(head, key, found[key][0]) for key in there}
        total = sum(math.exp(score) for score in scores.values())
        weights = {key: math.exp(score) / total for key, score in scores.items()}
        for key in DIMS:
            assert output.weights[key][row].item() == pytest.approx(weights.get(key, 0.0), abs=1e-6)
        for column in range(2):
            expected = sum(weights[key] * found[key][1][column] for key in there)
            assert output.prediction[row, column].item() == pytest.approx(expected, abs=1e-5)


def test_worked_weights_and_their_renormalisation() -> None:
    head = plain_head()
    assert head.logits is not None
    head.logits.data = torch.tensor([1.0, 2.0, 3.0]).log()  # audio, text, vision
    batch = ragged_batch(DIMS, {key: [3] for key in DIMS})
    complete = head(batch).weights
    assert [complete[key].item() for key in ("audio", "text", "vision")] == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    blind = head(without(batch, ["vision"])).weights
    assert [blind[key].item() for key in ("audio", "text", "vision")] == pytest.approx([1 / 3, 2 / 3, 0.0])


def test_all_combinations_start_from_the_same_average() -> None:
    batch = ragged_batch(DIMS, LENGTHS)
    learned, mean = plain_head(combination="learned"), plain_head(combination="mean")
    mean.load_state_dict(learned.state_dict(), strict=False)
    torch.testing.assert_close(learned(batch).prediction, mean(batch).prediction)


@pytest.mark.parametrize("combination", ["learned", "gated"])
def test_one_modality_has_no_weight_to_learn(combination: str) -> None:
    head = LateFusion({"text": 3}, 1, combination=combination)  # type: ignore[arg-type]
    assert all(name.startswith("predictors.") for name, _ in head.named_parameters())
    output = head.eval()(ragged_batch({"text": 3}, {"text": [2, 4]}))
    assert torch.equal(output.prediction, output.unimodal["text"])


def test_learns_to_trust_the_modality_that_knows() -> None:
    torch.manual_seed(0)
    target = torch.randn(80, 1)
    everywhere = torch.ones(80, 1, dtype=torch.bool)
    inputs = {
        "noise": ModalitySequence(torch.randn(80, 1, 1), everywhere),
        "signal": ModalitySequence(target.unsqueeze(1), everywhere),
    }
    head = LateFusion({"noise": 1, "signal": 1}, 1, hidden_dim=4, encoder="none", pooling="mean", dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(150):
        optimiser.zero_grad()
        output = head(inputs)
        loss = (output.prediction - target).square().mean()
        # With the unimodal predictions supervised, only the weights are free to silence the noise.
        for prediction in output.unimodal.values():
            loss = loss + (prediction - target).square().mean()
        loss.backward()
        optimiser.step()
    assert head(inputs).weights["signal"].min() > 0.85


def test_gate_follows_the_clip() -> None:
    """Each modality says in its second feature whether it can be believed; only a gate can use that."""
    torch.manual_seed(0)
    target = torch.randn(200, 1)
    reliable = torch.rand(200, 1) < 0.5
    inputs = {}
    for key, good in (("audio", reliable), ("text", ~reliable)):
        said = torch.where(good, target, torch.randn(200, 1))
        values = torch.cat([said, good.float()], dim=1).unsqueeze(1)
        inputs[key] = ModalitySequence(values, torch.ones(200, 1, dtype=torch.bool))
    head = LateFusion(
        {"audio": 2, "text": 2}, 1, hidden_dim=8, encoder="none", pooling="mean", combination="gated", dropout=0.0
    )
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        (head(inputs).prediction - target).square().mean().backward()
        optimiser.step()
    weight = head(inputs).weights["audio"]
    assert weight[reliable.squeeze()].mean() > 0.8
    assert weight[~reliable.squeeze()].mean() < 0.2


def test_unknown_combination() -> None:
    with pytest.raises(ValueError, match="one of learned, gated, mean, not 'product'"):
        LateFusion(DIMS, 1, combination="product")  # type: ignore[arg-type]
