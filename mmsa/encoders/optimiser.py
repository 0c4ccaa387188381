"""What the optimiser learns of a model, in groups with a learning rate and a weight decay each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from mmsa.config import TrainConfig
    from mmsa.model import MultimodalModel


def model_groups(model: MultimodalModel, config: TrainConfig) -> list[dict[str, Any]]:
    """The head, then each encoder that is trained: what decays of it, and its biases and normalisation, which do not.

    `initial_lr` is what the schedule multiplies.

    Args:
        model: whose parameters.
        config: rates by part.
    """
    inside = {id(parameter) for parameter in model.encoders.parameters()}
    head = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    groups: list[dict[str, Any]] = [
        {"name": "head", "params": head, "lr": config.learning_rate, "initial_lr": config.learning_rate}
    ]
    for key, encoder in model.encoders.items():
        own = config.encoders[key]
        if own.tune == "frozen":
            continue
        rates = {"lr": own.rate(), "initial_lr": own.rate()}
        decayed, plain = _by_decay(encoder)
        if decayed:
            groups.append({"name": f"encoder.{key}", "params": decayed, "weight_decay": own.decay(), **rates})
        if plain:
            groups.append({"name": f"encoder.{key}.plain", "params": plain, "weight_decay": 0.0, **rates})
    return groups


def _by_decay(encoder: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and kernels, and all that has one dimension: biases and normalisation layers."""
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    return [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
