from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.attention import Attention, TransformerLayer
from fusion.mult import CrossmodalTransformer, MulT
from fusion.sequence import ModalitySequence

Attend = Callable[[Attention, Tensor, Tensor], Tensor]
DIMS = {"text": 6, "audio": 3, "vision": 4}


def naive_layer(attend: Attend, layer: TransformerLayer, stream: Tensor, source: Tensor | None) -> Tensor:
    """One layer of section 3.2: attention on normalised inputs and a residual, then the feed-forward block."""
    normed = layer.norm(stream)
    if source is None:
        keys = normed
    else:
        assert layer.context_norm is not None
        keys = layer.context_norm(source)
    stream = stream + attend(layer.attention, normed, keys)
    norm, first, _, _, second = layer.feedforward
    return stream + second(nn.functional.gelu(first(norm(stream))))


def naive_mult(attend: Attend, head: MulT, clips: dict[str, Tensor]) -> Tensor:
    """The whole model on one clip, from the section's equations: `(T_m, D_m)` per modality → `(O,)`."""
    low = {}
    for key, steps in clips.items():
        kernel = head.convolutions[key].weight  # (H, D, 3)
        padded = torch.cat([torch.zeros(1, steps.shape[1]), steps, torch.zeros(1, steps.shape[1])])
        features = torch.stack([torch.einsum("hdk,kd->h", kernel, padded[t : t + 3]) for t in range(len(steps))])
        half = features.shape[1] // 2
        codes = torch.tensor(
            [
                [math.sin(t / 10000 ** (i / half)) for i in range(half)]
                + [math.cos(t / 10000 ** (i / half)) for i in range(half)]
                for t in range(len(steps))
            ]
        )
        low[key] = features + codes
    summaries = []
    for target in sorted(clips):
        streams = []
        for source in sorted(set(clips) - {target}):
            transformer = head.crossmodal[f"{source}->{target}"]
            stream = low[target]
            for layer in transformer.layers:
                stream = naive_layer(attend, layer, stream, low[source])
            streams.append(transformer.norm(stream))
        joint = torch.cat(streams, dim=1)
        transformer = head.self_attention[target]
        for layer in transformer.layers:
            joint = naive_layer(attend, layer, joint, None)
        summaries.append(transformer.norm(joint)[-1])
    last = torch.cat(summaries)
    hidden = last + head.block[3](torch.relu(head.block[0](last)))
    return head.output(hidden)


def test_equals_a_naive_mult_clip_by_clip(naive_attention: Attend) -> None:
    torch.manual_seed(0)
    head = MulT(DIMS, 2, hidden_dim=8, layers=2, heads=2, self_layers=2).eval()
    lengths = {"text": [4, 2], "audio": [7, 9], "vision": [5, 1]}
    batch = testing.ragged_batch(DIMS, lengths, slack=2)
    with torch.no_grad():
        prediction = head(batch).prediction
        for row in range(2):
            clip = {key: s.values[row][s.mask[row]] for key, s in batch.items()}
            torch.testing.assert_close(prediction[row], naive_mult(naive_attention, head, clip), atol=1e-5, rtol=1e-5)


def test_gaps_are_closed() -> None:
    """The convolution and the positions see neighbours among real steps only."""
    torch.manual_seed(0)
    head = MulT(DIMS, 1, hidden_dim=8).eval()
    batch = testing.ragged_batch(DIMS, {"text": [5], "audio": [7], "vision": [6]})
    gappy = {
        key: ModalitySequence(s.values, torch.arange(s.mask.shape[1]).unsqueeze(0) % 3 != 1) for key, s in batch.items()
    }
    closed = {key: ModalitySequence(s.values[:, s.mask[0]], s.mask[:, s.mask[0]]) for key, s in gappy.items()}
    torch.testing.assert_close(head(gappy).prediction, head(closed).prediction)


def test_missing_source_leaves_only_the_feed_forward_blocks() -> None:
    torch.manual_seed(0)
    transformer = CrossmodalTransformer(8, layers=2, heads=2, dropout=0.0).eval()
    target = ModalitySequence(torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool))
    nothing = ModalitySequence(torch.randn(1, 4, 8), torch.zeros(1, 4, dtype=torch.bool))
    stream = target.values
    for layer in transformer.layers:
        stream = stream + layer.feedforward(stream)
    torch.testing.assert_close(transformer(target, nothing).values, transformer.norm(stream))


def test_missing_target_scales_the_others_up() -> None:
    """With the last block switched off, the prediction is linear in the summaries of the targets."""
    torch.manual_seed(0)
    head = MulT(DIMS, 1, hidden_dim=8).eval()
    for parameter in head.block.parameters():
        nn.init.zeros_(parameter)
    batch = testing.ragged_batch(DIMS, {"text": [4], "audio": [5], "vision": [0]})
    with torch.no_grad():
        output = head(batch)
        audio, text, _ = head.output.weight.chunk(3, dim=1)
        there = audio @ output.representations["audio"][0] + text @ output.representations["text"][0]
    torch.testing.assert_close(output.prediction[0], 1.5 * there + head.output.bias)


def test_every_ordered_pair_speaks() -> None:
    """The summary of each target moves with each source, also with four modalities."""
    dims = {"a": 2, "b": 3, "c": 2, "d": 4}
    torch.manual_seed(0)
    head = MulT(dims, 1, hidden_dim=8).eval()
    batch = testing.ragged_batch(dims, {key: [4] for key in dims})
    with torch.no_grad():
        before = head(batch).representations
        for source, target in permutations(dims, 2):
            changed = ModalitySequence(batch[source].values + 1, batch[source].mask)
            after = head({**batch, source: changed}).representations
            assert (after[target] - before[target]).abs().max() > 1e-3


def test_a_source_is_a_bag_with_positions() -> None:
    """Crossmodal attention does not ask for alignment: permuted source tokens give the same stream."""
    torch.manual_seed(0)
    transformer = CrossmodalTransformer(8, layers=2, heads=2, dropout=0.0).eval()
    target, source = (ModalitySequence(torch.randn(2, n, 8), torch.ones(2, n, dtype=torch.bool)) for n in (3, 5))
    shuffled = ModalitySequence(source.values[:, [3, 0, 4, 2, 1]], source.mask)
    torch.testing.assert_close(transformer(target, shuffled).values, transformer(target, source).values)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    testing.check_trains(MulT(dims, 1, hidden_dim=8), testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims}))


def test_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be odd so that a step stays in the middle, not 4"):
        MulT(DIMS, 1, kernel=4)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    torch.manual_seed(0)
    assert fit(MulT({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0), product_task) < 0.1
