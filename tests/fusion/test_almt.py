"""ALMT against loops written from its definition, and its limiting cases."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fusion import testing
from fusion.almt import ALMT, AdaptiveHyperModalityLayer, ModalityEmbedding
from fusion.attention import TransformerLayer, sinusoidal_positions
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}


def build(**options: object) -> ALMT:
    torch.manual_seed(0)
    return ALMT(DIMS, 2, **{"hidden_dim": 8, "tokens": 3, "heads": 2, **options}).eval()


def naive_attention(attention: torch.nn.Module, query: Tensor, keys: Tensor) -> Tensor:
    """Multi-head attention of `(Q, H)` to `(K, H)`, one dot product after the other."""
    q = attention.query(query)
    k, v = attention.key_value(keys).chunk(2, dim=-1)
    size = q.shape[1] // attention.heads
    out = torch.zeros_like(q)
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        for row in range(len(q)):
            scores = [float(q[row, part] @ k[step, part]) / math.sqrt(size) for step in range(len(k))]
            total = sum(math.exp(score) for score in scores)
            for step, score in enumerate(scores):
                out[row, part] += math.exp(score) / total * v[step, part]
    return attention.output(out)


def test_the_hyper_modality_update_equals_its_definition() -> None:
    """hyper + sum over others of softmax(Q K^T / sqrt d) V, with nothing from a missing one."""
    torch.manual_seed(0)
    layer = AdaptiveHyperModalityLayer(8, ("audio", "vision"), heads=2, dropout=0.0).eval()
    hyper, language = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    others = {key: ModalitySequence(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)) for key in layer.norms}
    others["vision"].mask[1] = False
    with torch.no_grad():
        actual = layer(hyper, language, others)
        for clip, heard in ((0, ["audio", "vision"]), (1, ["audio"])):
            expected = hyper[clip].clone()
            for key in heard:
                keys = layer.norms[key](others[key].values[clip])
                expected += naive_attention(layer.attentions[key], layer.query_norm(language[clip]), keys)
            assert torch.allclose(actual[clip], expected, atol=1e-5)


def test_tokens_are_the_first_rows_of_a_whole_self_attention_layer() -> None:
    """Only the kept rows are computed; a layer over tokens and steps together gives the same ones."""
    torch.manual_seed(0)
    embedding = ModalityEmbedding(5, 8, tokens=3, heads=2, dropout=0.0).eval()
    whole = TransformerLayer(8, heads=2, feedforward_dim=16, dropout=0.0).eval()
    state = embedding.layer.state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("context_norm")}
    whole.load_state_dict(state)
    embedding.layer.context_norm.load_state_dict(embedding.layer.norm.state_dict())
    sequence = ModalitySequence(torch.randn(1, 6, 5), torch.ones(1, 6, dtype=torch.bool))
    with torch.no_grad():
        steps = embedding.project.project(sequence.values) + sinusoidal_positions(sequence.mask, 8)
        both = torch.cat([embedding.tokens[None], steps], dim=1)
        expected = whole(both, torch.ones(1, 9, dtype=torch.bool))[:, :3]
        assert torch.allclose(embedding(sequence).values, expected, atol=1e-6)


def test_language_queries_of_every_scale_are_used() -> None:
    """Depth 3 has two language layers and three updates; shutting any one update changes the prediction."""
    head = build(depth=3)
    assert (len(head.scales), len(head.updates)) == (2, 3)
    batch = testing.ragged_batch(DIMS, LENGTHS)
    with torch.no_grad():
        reference = head(batch).prediction
        for update in head.updates:
            kept = {name: value.clone() for name, value in update.state_dict().items()}
            for attention in update.attentions.values():
                attention.output.weight.zero_()
                attention.output.bias.zero_()
            assert not torch.allclose(head(batch).prediction, reference, atol=1e-5)
            update.load_state_dict(kept)


def test_the_text_alone_leaves_the_hyper_modality_at_its_learned_start() -> None:
    head = build()
    batch = testing.without(testing.ragged_batch(DIMS, LENGTHS), ["audio", "vision"])
    seen: list[Tensor] = []
    for update in head.updates:
        update.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        head(batch)
    for hyper in seen:
        assert torch.equal(hyper, head.hyper.expand_as(hyper))


@pytest.mark.parametrize("present", [["text"], ["audio"], ["vision"], ["audio", "vision"], ["audio", "text", "vision"]])
def test_every_modality_that_is_there_is_heard(present: list[str]) -> None:
    """In particular the others when language is missing, and language when it is alone."""
    head = build()
    batch = testing.ragged_batch(DIMS, {key: [5] if key in present else [0] for key in DIMS})
    leaves = {key: torch.nan_to_num(s.values).requires_grad_() for key, s in batch.items()}
    head({key: ModalitySequence(leaves[key], batch[key].mask) for key in batch}).prediction[0, 0].backward()
    for key in present:
        assert (leaves[key].grad.abs() > 1e-7).any(dim=-1).all(), f"some step of {key} has no influence"


def test_the_order_of_steps_matters() -> None:
    head = build()
    batch = testing.ragged_batch(DIMS, {key: [5] for key in DIMS})
    turned = {key: ModalitySequence(s.values.flip(1), s.mask) for key, s in batch.items()}
    with torch.no_grad():
        assert not torch.allclose(head(batch).prediction, head(turned).prediction, atol=1e-4)


def test_learns_whether_audio_agrees_with_text() -> None:
    """The label is the product of two signs, which neither modality tells alone."""
    torch.manual_seed(0)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(16, 1)
    target = (signs[:, 0] * signs[:, 1]).unsqueeze(1)
    mask = torch.ones(64, 3, dtype=torch.bool)
    batch = {
        key: ModalitySequence(signs[:, column, None, None] + 0.1 * torch.randn(64, 3, 2), mask)
        for column, key in enumerate(("audio", "text"))
    }
    head = ALMT({"audio": 2, "text": 2}, 1, hidden_dim=16, tokens=2, depth=2, fusion_layers=1, dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        (head(batch).prediction - target).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        assert (head(batch).prediction - target).abs().max() < 0.5


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1, not 0"):
        build(depth=0)
    with pytest.raises(ValueError, match="primary must be one of audio, text, vision, not 'smell'"):
        build(primary="smell")
