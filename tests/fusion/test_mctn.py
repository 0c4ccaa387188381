"""MCTN: the decoder against its equations, the losses against loops, and what needs which modality."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.grid import common_grid
from fusion.mctn import MCTN, TranslationDecoder
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 0], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}


def build(**options: object) -> MCTN:
    torch.manual_seed(0)
    return MCTN(DIMS, 2, **{"hidden_dim": 8, "steps": 5, "dropout": 0.0, **options})


def naive_gru(cell: nn.GRUCell, x: Tensor, h: Tensor) -> Tensor:
    """Cho et al. 2014 in the form of torch's documentation, gate by gate."""
    gates_x = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    gates_h = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    reset = torch.sigmoid(gates_x[0] + gates_h[0])
    update = torch.sigmoid(gates_x[1] + gates_h[1])
    new = torch.tanh(gates_x[2] + reset * gates_h[2])
    return (1 - update) * new + update * h


def naive_translation(decoder: TranslationDecoder, memory: Tensor, embed: nn.Module, readout: nn.Module) -> Tensor:
    """One clip, `(G, H)` → `(G, D)`."""
    state = torch.tanh(decoder.start(memory.mean(dim=0)))
    fed = torch.zeros_like(state)
    outputs = []
    for _ in range(len(memory)):
        scores = [torch.exp((decoder.query.weight @ state) @ step) for step in memory]
        context = sum(score / sum(scores) * step for score, step in zip(scores, memory, strict=True))
        state = naive_gru(decoder.cell, torch.cat([fed, context]), state)
        outputs.append(readout(state))
        fed = embed(outputs[-1])
    return torch.stack(outputs)


def test_the_decoder_equals_its_equations() -> None:
    torch.manual_seed(0)
    decoder, embed, readout = TranslationDecoder(6), nn.Linear(3, 6), nn.Linear(6, 3)
    memory = torch.randn(2, 4, 6)
    with torch.no_grad():
        actual = decoder(memory, embed, readout)
        for clip in range(2):
            expected = naive_translation(decoder, memory[clip], embed, readout)
            assert torch.allclose(actual[clip], expected, atol=1e-5)


def test_losses_equal_their_definition_clip_by_clip() -> None:
    """Translation counts clips with source and target, cycle clips with the source, fallback clips with both."""
    head = build(translation_weight=0.5, cycle_weight=0.25, fallback_weight=2.0).train()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    losses = head(batch).losses
    grid = common_grid({key: s.zeroed() for key, s in batch.items()}, 5)
    terms: dict[str, list[Tensor]] = {"audio": [], "vision": [], "cycle": [], "near_audio": [], "near_vision": []}
    with torch.no_grad():
        for clip in range(3):  # the fourth has no text
            own = {key: ModalitySequence(s.values[clip : clip + 1], s.mask[clip : clip + 1]) for key, s in grid.items()}
            states = {key: head._encode(key, s) for key, s in own.items()}
            joint = states["text"]
            for level, key in enumerate(("audio", "vision")):
                joint = joint if level == 0 else head.encoders[1](joint)
                out = naive_translation(head.decoders[level], joint.values[0], head.embeddings[key], head.readouts[key])
                if own[key].present[0]:
                    terms[key].append((out - own[key].values[0]).square().mean())
                    terms[f"near_{key}"].append((states[key].values - states["text"].values).square().mean())
                if level == 0:
                    again = head._encode(key, ModalitySequence(out[None], own["text"].mask)).values[0]
                    back = naive_translation(head.decoders[0], again, head.embeddings["text"], head.readouts["text"])
                    terms["cycle"].append((back - own["text"].values[0]).square().mean())
    assert [len(terms[key]) for key in ("audio", "vision", "cycle")] == [3, 2, 3]
    mean = {key: torch.stack(values).mean().item() for key, values in terms.items()}
    assert losses["translation"].item() == pytest.approx(0.5 * (mean["audio"] + mean["vision"]), rel=1e-4)
    assert losses["cycle"].item() == pytest.approx(0.25 * mean["cycle"], rel=1e-4)
    assert losses["fallback"].item() == pytest.approx(2.0 * (mean["near_audio"] + mean["near_vision"]), rel=1e-4)


def test_the_source_alone_decides_where_it_is_there() -> None:
    """In eval mode targets may be changed or taken away; in a clip without the source they speak."""
    head = build().eval()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    changed = testing.ragged_batch(DIMS, LENGTHS, seed=1)
    changed["text"] = batch["text"]
    with torch.no_grad():
        reference = head(batch).prediction
        for other in (changed, {"text": batch["text"], "audio": batch["audio"]}):
            prediction = head(other).prediction
            assert torch.allclose(prediction[:3], reference[:3], atol=1e-6)
            assert not torch.allclose(prediction[3], reference[3], atol=1e-4)


def test_without_the_source_the_mean_of_the_others_states_stands_in() -> None:
    head = build().eval()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    seen: list[ModalitySequence] = []
    head.encoders[1].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    with torch.no_grad():
        head(batch)
        alone = []
        for key in ("audio", "vision"):
            head({key: batch[key]})
            alone.append(seen[-1].values[3])
    assert torch.allclose(seen[0].values[3], (alone[0] + alone[1]) / 2, atol=1e-6)


def test_the_stand_in_does_not_move_what_it_copies() -> None:
    """The fallback loss holds the source's states fixed: no gradient to what only the source passes through."""
    head = build().train()
    head(testing.ragged_batch(DIMS, LENGTHS)).losses["fallback"].backward()
    assert head.embeddings["text"].weight.grad is None
    assert head.embeddings["audio"].weight.grad.abs().sum() > 0


def test_eval_mode_asks_for_no_losses_and_a_single_modality_never_does() -> None:
    assert build().eval()(testing.ragged_batch(DIMS, LENGTHS)).losses == {}
    single = MCTN({"audio": 3}, 1).train()
    assert single(testing.ragged_batch({"audio": 3}, {"audio": [4, 2]})).losses == {}
    assert not list(single.decoders.parameters())


def test_learns_to_predict_from_the_source_what_only_translation_teaches_the_stand_in() -> None:
    """Audio is a copy of text. Trained with text always there, the head also reads audio alone."""
    torch.manual_seed(0)
    dims = {"audio": 2, "text": 2}
    head = MCTN(dims, 1, hidden_dim=16, steps=3, fallback_weight=1.0, dropout=0.0).train()
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    mask = torch.ones(64, 3, dtype=torch.bool)
    for _ in range(120):
        values = torch.randn(64, 1, 2).expand(-1, 3, -1)
        output = head({key: ModalitySequence(values, mask) for key in dims})
        target = torch.tanh(values[:, 0, :1])
        loss = (output.prediction - target).square().mean() + sum(output.losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    values = torch.randn(64, 1, 2).expand(-1, 3, -1)
    with torch.no_grad():
        guess = head.eval()({"audio": ModalitySequence(values, mask)}).prediction
    target = torch.tanh(values[:, 0, :1])
    assert (guess - target).square().mean() < 0.2 * target.square().mean()


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"cycle_weight must not be negative, but is -1\.0"):
        build(cycle_weight=-1.0)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        build(steps=0)
