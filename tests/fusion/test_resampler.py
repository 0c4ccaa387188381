from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.attention import Attention
from fusion.resampler import GatedCrossAttention, PerceiverResampler, ResamplerFusion
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 5, "vision": 4}
Attend = Callable[[Attention, Tensor, Tensor], Tensor]


def open_gates(head: ResamplerFusion, value: float = 1.0) -> ResamplerFusion:
    for layer in head.gated:
        nn.init.constant_(layer.attention_gate, value)
        nn.init.constant_(layer.feedforward_gate, value)
    return head


def naive_block(block: nn.Sequential, values: Tensor) -> Tensor:
    norm, first, _, _, second = block
    return second(nn.functional.gelu(first(norm(values))))


def test_resampler_equals_the_equations(naive_attention: Attend) -> None:
    torch.manual_seed(0)
    module = PerceiverResampler(8, latents=3, layers=2, heads=2, dropout=0.0).eval()
    sequence = testing.ragged_batch({"audio": 8}, {"audio": [5, 2, 0]})["audio"].zeroed()
    with torch.no_grad():
        out = module(sequence)
        for row in range(2):
            real, values = sequence.values[row][sequence.mask[row]], module.latents
            for level in range(2):
                normed = module.latent_norms[level](values)
                keys = torch.cat([module.token_norms[level](real), normed])
                values = values + naive_attention(module.attentions[level], normed, keys)
                values = values + naive_block(module.feedforwards[level], values)
            torch.testing.assert_close(out.values[row], module.norm(values), atol=1e-5, rtol=1e-5)
    assert out.mask.tolist() == [[True] * 3, [True] * 3, [False] * 3]


def test_gated_cross_attention_equals_the_equations(naive_attention: Attend) -> None:
    torch.manual_seed(0)
    module = GatedCrossAttention(8, heads=2, dropout=0.0).eval()
    states, latents = torch.randn(1, 4, 8), ModalitySequence(torch.randn(1, 3, 8), torch.tensor([[True, False, True]]))
    assert torch.equal(module(states, latents), states)
    nn.init.constant_(module.attention_gate, 0.3)
    nn.init.constant_(module.feedforward_gate, -0.7)
    with torch.no_grad():
        read = naive_attention(module.attention, module.norm(states[0]), latents.values[0, [0, 2]])
        values = states[0] + torch.tanh(torch.tensor(0.3)) * read
        values = values + torch.tanh(torch.tensor(-0.7)) * naive_block(module.feedforward, values)
        torch.testing.assert_close(module(states, latents)[0], values, atol=1e-5, rtol=1e-5)


def test_an_untrained_head_is_its_primary_only_transformer() -> None:
    torch.manual_seed(0)
    head = ResamplerFusion(DIMS, 2, hidden_dim=8).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [5, 0], "text": [3, 4], "vision": [2, 6]})
    alone = ResamplerFusion({"text": 5}, 2, hidden_dim=8).eval()
    alone.load_state_dict({key: value for key, value in head.state_dict().items() if key in alone.state_dict()})
    expected = alone({"text": batch["text"]}).prediction
    torch.testing.assert_close(head(batch).prediction, expected)
    assert (open_gates(head)(batch).prediction - expected).abs().max() > 1e-2


def test_others_speak_where_the_primary_is_missing() -> None:
    torch.manual_seed(0)
    head = open_gates(ResamplerFusion(DIMS, 1, hidden_dim=8)).eval()
    lengths = {"audio": [4], "text": [0], "vision": [3]}
    with torch.no_grad():
        first, second = (head(testing.ragged_batch(DIMS, lengths, seed=seed)).prediction for seed in (0, 1))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("primary", [None, "audio"])
def test_keeps_the_contract_with_open_gates(primary: str | None) -> None:
    """At the start the gates hide what is behind them."""
    torch.manual_seed(0)
    head = open_gates(ResamplerFusion(DIMS, 1, hidden_dim=8, primary=primary))
    batch = testing.ragged_batch(DIMS, {"audio": [5, 2, 0], "text": [3, 0, 1], "vision": [2, 0, 4]})
    testing.check_padding_blind(head, batch)
    testing.check_missing_proof(head, batch)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(ResamplerFusion(dims, 1, hidden_dim=8), batch)


def test_needs_a_latent() -> None:
    with pytest.raises(ValueError, match="at least 1 latent, not 0"):
        ResamplerFusion(DIMS, 1, latents=0)


def test_learns_a_product_of_two_modalities(fit: Callable[..., float], product_task: object) -> None:
    torch.manual_seed(0)
    head = ResamplerFusion({"audio": 2, "text": 2}, 1, hidden_dim=16, dropout=0.0)
    assert fit(head, product_task) < 0.1
    assert all(layer.attention_gate.abs() > 1e-2 for layer in head.gated)
