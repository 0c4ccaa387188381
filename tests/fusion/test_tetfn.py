"""TETFN: its attention against loops, who hears whom, and the self-supervised labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusion import testing
from fusion.attention import TransformerLayer
from fusion.sequence import ModalitySequence
from fusion.tetfn import TETFN, TextEnhancedTransformer

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}
NAN = float("nan")


def build(**options: object) -> TETFN:
    torch.manual_seed(0)
    return TETFN(DIMS, 2, **{"hidden_dim": 8, "heads": 2, "dropout": 0.0, **options})


def naive_attention(attention: nn.Module, query: Tensor, keys: Tensor) -> Tensor:
    """Multi-head attention of `(Q, H)` to `(K, H)`, one dot product after the other."""
    q = attention.query(query)
    k, v = attention.key_value(keys).chunk(2, dim=-1)
    size = q.shape[1] // attention.heads
    out = torch.zeros_like(q)
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        for row in range(len(q)):
            scores = [math.exp(float(q[row, part] @ key[part]) / math.sqrt(size)) for key in k]
            for score, value in zip(scores, v, strict=True):
                out[row, part] += score / sum(scores) * value[part]
    return attention.output(out)


def naive_layer(layer: TransformerLayer, values: Tensor, context: Tensor) -> Tensor:
    """Pre-norm cross-attention layer of one clip; no attention where the context is empty."""
    if len(context):
        values = values + naive_attention(layer.attention, layer.norm(values), layer.context_norm(context))
    return values + layer.feedforward(values)


@pytest.mark.parametrize("text_steps", [4, 0])
def test_the_text_enhanced_transformer_equals_its_definition(text_steps: int) -> None:
    """The source queries the text, then the target queries the source; padding of all three is not there."""
    torch.manual_seed(0)
    transformer = TextEnhancedTransformer(8, layers=2, heads=2, dropout=0.0).eval()
    steps = {"target": 3, "source": 5, "text": text_steps}
    batch = testing.ragged_batch(dict.fromkeys(steps, 8), {k: [n, 6] for k, n in steps.items()}, slack=1)
    clip = {key: batch[key].zeroed().values[0, :n] for key, n in steps.items()}
    with torch.no_grad():
        actual = transformer(*(batch[key].zeroed() for key in steps))[0, :3]
        enhanced = naive_layer(transformer.lower, clip["source"], clip["text"])
        expected = clip["target"]
        for layer in transformer.upper:
            expected = naive_layer(layer, expected, enhanced)
    assert torch.allclose(actual, expected, atol=1e-5)


def test_who_hears_whom() -> None:
    """Audio and vision hear each other through text; text hears both plainly; a lone other hears the text."""
    head = build()
    routes = {e.own: (sorted(e.enhanced), sorted(e.plain)) for e in head.enhancers}
    assert routes == {
        "audio": (["vision"], []),
        "text": ([], ["audio", "vision"]),
        "vision": (["audio"], []),
    }
    pair = TETFN({"audio": 3, "text": 6}, 1)
    assert {e.own: (sorted(e.enhanced), sorted(e.plain)) for e in pair.enhancers} == {
        "audio": ([], ["text"]),
        "text": ([], ["audio"]),
    }


def test_the_text_changes_what_vision_makes_of_audio() -> None:
    """The text-oriented attention reaches vision's enhanced vector, though vision never queries text itself."""
    head = build().eval()
    vision = head.enhancers[2]
    batch = {key: ModalitySequence(torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool)) for key in DIMS}
    other_text = {**batch, "text": ModalitySequence(torch.randn(1, 4, 8), batch["text"].mask)}
    deaf = {**batch, "audio": ModalitySequence(batch["audio"].values, torch.zeros(1, 4, dtype=torch.bool))}
    with torch.no_grad():
        assert not torch.allclose(vision(batch), vision(other_text), atol=1e-5)
        assert not torch.allclose(vision(batch), vision(deaf), atol=1e-5)
        deaf_other = {**deaf, "text": other_text["text"]}
        assert torch.allclose(vision(deaf), vision(deaf_other), atol=1e-6), "without audio, text has no way in"


@pytest.mark.parametrize("present", [["text"], ["audio"], ["vision"], ["audio", "vision"], ["audio", "text", "vision"]])
def test_every_modality_that_is_there_is_heard(present: list[str]) -> None:
    head = build().eval()
    batch = testing.ragged_batch(DIMS, {key: [5] if key in present else [0] for key in DIMS})
    leaves = {key: torch.nan_to_num(s.values).requires_grad_() for key, s in batch.items()}
    head({key: ModalitySequence(leaves[key], batch[key].mask) for key in batch}).prediction[0, 0].backward()
    for key in present:
        assert (leaves[key].grad.abs() > 1e-8).any(dim=-1).all(), f"some step of {key} has no influence"


def test_the_first_pass_teaches_nothing_and_later_ones_by_disagreement() -> None:
    """tanh|y_s - y_m| * |prediction - y_s| over the clips that are labelled and have the modality."""
    head = build(label_range=2.0, unimodal_weight=0.5).train()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    target = torch.tensor([[1.5, 0.0], [-1.0, 0.0], [NAN, 0.0], [-0.5, 0.0]])
    index = torch.arange(4)
    first = head.target_losses(head(batch), target, index)
    assert {key: loss.item() for key, loss in first.items()} == {f"self_supervised_{key}": 0.0 for key in DIMS}
    output = head(batch)
    second = head.target_losses(output, target, index)
    for m, (key, clips) in enumerate({"audio": [0, 1, 3], "text": [0, 1, 3], "vision": [0, 3]}.items()):
        pseudo = head.generator.current(key, index)[:, 0]
        terms = []
        for clip in clips:
            predicted = head.unimodal_outputs[m](output.representations[key][clip])[0]
            terms.append(torch.tanh((pseudo[clip] - target[clip, 0]).abs()) * (predicted - pseudo[clip]).abs())
        expected = 0.5 * torch.stack(terms).mean() / 2.0
        assert expected > 1e-4
        assert second[f"self_supervised_{key}"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_pseudo_labels_are_not_saved() -> None:
    head = build().train()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    before = set(head.state_dict())
    head.target_losses(head(batch), torch.ones(4, 2), torch.arange(4))
    assert set(head.state_dict()) == before
    assert not any("generator" in key for key in before)
    build().load_state_dict(head.state_dict())


def test_learns_whether_audio_agrees_with_vision() -> None:
    """The label is the product of two signs, which neither modality tells alone."""
    torch.manual_seed(0)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(8, 1)
    target = (signs[:, 0] * signs[:, 1]).unsqueeze(1)
    mask = torch.ones(32, 3, dtype=torch.bool)
    batch = {
        key: ModalitySequence(signs[:, column, None, None] + 0.1 * torch.randn(32, 3, 2), mask)
        for column, key in enumerate(("audio", "vision"))
    }
    head = TETFN(dict.fromkeys(("audio", "text", "vision"), 2), 1, hidden_dim=16, encoder="none", dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(120):
        optimiser.zero_grad()
        F.mse_loss(head(batch).prediction, target).backward()
        optimiser.step()
    with torch.no_grad():
        assert (head(batch).prediction - target).abs().max() < 0.5


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="layers must be at least 1, not 0"):
        build(layers=0)
    with pytest.raises(ValueError, match="primary must be one of audio, text, vision, not 'smell'"):
        build(primary="smell")
