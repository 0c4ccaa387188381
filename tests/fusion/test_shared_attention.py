from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.attention import Attention
from fusion.sequence import ModalitySequence
from fusion.shared_attention import SelfAttentionReader, SharedAttentionFusion

DIMS = {"audio": 3, "text": 5, "vision": 4}
Attend = Callable[[Attention, Tensor, Tensor], Tensor]


def naive_reader(attend: Attend, reader: SelfAttentionReader, tokens: Tensor) -> Tensor:
    """Self-attention layers over one clip's `(T, H)` tokens, attention pooling, layer norm → `(H,)`."""
    for layer in reader.layers:
        normed = layer.norm(tokens)
        tokens = tokens + attend(layer.attention, normed, normed)
        norm, first, _, _, second = layer.feedforward
        tokens = tokens + second(nn.functional.gelu(first(norm(tokens))))
    mass = torch.stack([reader.pool.score(step) for step in tokens]).exp()
    return reader.norm((mass / mass.sum() * tokens).sum(dim=0))


def test_equals_a_naive_private_and_shared_reading(naive_attention: Attend) -> None:
    torch.manual_seed(0)
    head = SharedAttentionFusion(DIMS, 2, hidden_dim=8, layers=2, heads=2).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [6, 2, 3], "text": [3, 4, 0], "vision": [2, 0, 0]})
    with torch.no_grad():
        output = head(batch)
        tokens = head.tokens({key: sequence.zeroed() for key, sequence in batch.items()})
        for row in range(3):
            views, mass = {}, {}
            for key, sequence in tokens.items():
                if not sequence.mask[row].any():
                    continue
                own = sequence.values[row][sequence.mask[row]]
                readings = [naive_reader(naive_attention, r, own) for r in (head.private[key], head.shared)]
                views[key] = torch.tanh(head.views[key](torch.cat(readings)))
                mass[key] = head.readout.pool.score(views[key]).exp()
            fused = sum(mass[key] / sum(mass.values()) * view for key, view in views.items())
            torch.testing.assert_close(output.prediction[row], head.output(fused), atol=1e-5, rtol=1e-5)
            for key in views:
                share = float(mass[key] / sum(mass.values()))
                assert float(output.weights[key][row]) == pytest.approx(share, abs=1e-5)


def test_shared_weights_learn_from_every_modality_private_ones_from_their_own() -> None:
    torch.manual_seed(0)
    head = SharedAttentionFusion(DIMS, 1, hidden_dim=8)
    for key in DIMS:
        head.zero_grad()
        lengths = {name: [4] if name == key else [0] for name in DIMS}
        head(testing.ragged_batch(DIMS, lengths)).prediction.sum().backward()
        reached = {
            name: any(p.grad is not None and bool((p.grad != 0).any()) for p in module.parameters())
            for name, module in (*head.private.items(), ("shared", head.shared))
        }
        assert reached == {**{name: name == key for name in DIMS}, "shared": True}


def test_the_shared_reader_does_not_ask_which_modality_it_reads() -> None:
    """The same tokens under two names are read alike by the shared transformer, not by the private ones."""
    torch.manual_seed(0)
    head = SharedAttentionFusion({"a": 4, "b": 4}, 1, hidden_dim=8).eval()
    head.tokens.encoders["b"].load_state_dict(head.tokens.encoders["a"].state_dict())
    values = torch.randn(1, 3, 4)
    same = {key: ModalitySequence(values, torch.ones(1, 3, dtype=torch.bool)) for key in ("a", "b")}
    tokens = head.tokens(same)
    assert torch.equal(head.shared(tokens["a"]), head.shared(tokens["b"]))
    assert (head.private["a"](tokens["a"]) - head.private["b"](tokens["b"])).abs().max() > 1e-2


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(SharedAttentionFusion(dims, 1, hidden_dim=8), batch)


def test_learns_an_order_in_time(fit: Callable[..., float]) -> None:
    """The label says which of two steps comes first: only attention with positions can tell."""
    early = torch.randint(0, 2, (64,), generator=torch.Generator().manual_seed(0))
    audio = torch.zeros(64, 4, 2)
    audio[:, 0] = nn.functional.one_hot(early, 2).float()
    audio[:, 3] = nn.functional.one_hot(1 - early, 2).float()
    batch = {
        "audio": ModalitySequence(audio, torch.ones(64, 4, dtype=torch.bool)),
        "text": ModalitySequence(torch.zeros(64, 1, 2), torch.ones(64, 1, dtype=torch.bool)),
    }
    torch.manual_seed(0)
    head = SharedAttentionFusion({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0)
    assert fit(head, (batch, early.float().unsqueeze(1) * 2 - 1)) < 0.1
