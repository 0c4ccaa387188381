from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion import testing
from fusion.bottleneck import BottleneckFusion
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 5, "vision": 4}


def naive_bottleneck(head: BottleneckFusion, clip: dict[str, Tensor]) -> Tensor:
    """The paper's model on one clip that has the modalities of `clip` `(T_m, H)` tokens and no others → `(O,)`."""
    rows = {key: row for row, key in enumerate(head.modalities)}
    streams = {key: torch.cat([head.cls[rows[key]], tokens]) for key, tokens in clip.items()}
    shared = head.bottlenecks
    count = len(shared)

    def through(layer: torch.nn.Module, tokens: Tensor) -> Tensor:
        return layer(tokens.unsqueeze(0), torch.ones(1, len(tokens), dtype=torch.bool))[0]

    for level, layers in enumerate(head.layers):
        if level < head.fusion_layer:
            streams = {key: through(layers[key], stream) for key, stream in streams.items()}
            continue
        told = []
        for key, stream in streams.items():
            # The paper writes the bottleneck after the modality's tokens; attention does not mind the order.
            out = through(layers[key], torch.cat([stream, shared]))
            streams[key], mine = out[:-count], out[-count:]
            told.append(mine)
        shared = sum(told) / len(told)
    scores = [head.outputs[key](head.norms[key](stream[0])) for key, stream in streams.items()]
    return sum(scores) / len(scores)


def test_equals_a_naive_bottleneck_transformer() -> None:
    torch.manual_seed(0)
    head = BottleneckFusion(DIMS, 2, hidden_dim=8, layers=4, fusion_layer=1, bottlenecks=3).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [6, 2, 3], "text": [3, 4, 0], "vision": [2, 0, 0]})
    with torch.no_grad():
        prediction = head(batch).prediction
        tokens = head.tokens({key: sequence.zeroed() for key, sequence in batch.items()})
        for row in range(3):
            clip = {k: s.values[row][s.mask[row]] for k, s in tokens.items() if s.mask[row].any()}
            torch.testing.assert_close(prediction[row], naive_bottleneck(head, clip), atol=1e-5, rtol=1e-5)


def audio_to_text(head: BottleneckFusion) -> Tensor:
    """How much the text's [CLS] moves when the audio does."""
    head.eval()
    batch = testing.ragged_batch(DIMS, {"audio": [5], "text": [3], "vision": [4]})
    louder = ModalitySequence(batch["audio"].values * -2, batch["audio"].mask)
    with torch.no_grad():
        before, after = head(batch), head({**batch, "audio": louder})
    return (after.representations["text"] - before.representations["text"]).abs().max()


def test_modalities_hear_each_other_through_the_bottleneck_alone() -> None:
    torch.manual_seed(0)
    head = BottleneckFusion(DIMS, 1, hidden_dim=8)
    assert audio_to_text(head) > 1e-4
    # Layers that leave the shared tokens out of what [CLS] reads: cut the exchange and nothing crosses.
    head._exchange = lambda layers, streams, shared, present: (  # type: ignore[method-assign]
        {k: ModalitySequence(layers[k](s.values, s.mask), s.mask) for k, s in streams.items()},
        shared,
    )
    assert audio_to_text(head) == 0


def test_two_layers_must_follow_for_anything_to_cross() -> None:
    for layers, fusion_layer in ((3, 2), (1, 0), (3, -1)):
        with pytest.raises(ValueError, match="at least two layers must follow fusion_layer"):
            BottleneckFusion(DIMS, 1, layers=layers, fusion_layer=fusion_layer)
    torch.manual_seed(0)
    assert audio_to_text(BottleneckFusion(DIMS, 1, hidden_dim=8, layers=2, fusion_layer=0)) > 1e-4


def test_needs_a_bottleneck() -> None:
    with pytest.raises(ValueError, match="at least 1 bottleneck token, not 0"):
        BottleneckFusion(DIMS, 1, bottlenecks=0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(BottleneckFusion(dims, 1, hidden_dim=8), batch)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    """Predictions are averaged over modalities, so a product can only come through the bottleneck."""
    torch.manual_seed(0)
    head = BottleneckFusion({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0)
    assert fit(head, product_task) < 0.1
