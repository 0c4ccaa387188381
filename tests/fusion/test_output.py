from __future__ import annotations

import torch

from fusion.output import FusionOutput


def test_outputs_do_not_share_their_empty_groups() -> None:
    first, second = FusionOutput(torch.zeros(1, 1)), FusionOutput(torch.zeros(1, 1))
    first.losses["x"] = torch.zeros(())
    first.weights["x"] = torch.zeros(1)
    assert not second.losses
    assert not second.weights
    assert not second.unimodal
    assert not second.representations


def test_torch_sees_through_it() -> None:
    """Registered with torch's tree utilities, so exported programs return it."""
    output = FusionOutput(torch.zeros(2, 1), unimodal={"text": torch.ones(2, 1)}, losses={"pull": torch.tensor(3.0)})
    leaves, structure = torch.utils._pytree.tree_flatten(output)
    assert len(leaves) == 3
    rebuilt = torch.utils._pytree.tree_unflatten([leaf + 1 for leaf in leaves], structure)
    assert isinstance(rebuilt, FusionOutput)
    assert rebuilt.prediction.tolist() == [[1.0], [1.0]]
    assert rebuilt.unimodal["text"].tolist() == [[2.0], [2.0]]
    assert rebuilt.losses["pull"].item() == 4.0
