"""Parameters, gradients and optimiser state spread over processes, each of which holds a share of every tensor.

This is torch's `fully_shard` (FSDP 2; Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel",
VLDB 2023): a module's parameters are put together when it computes and taken apart afterwards, and gradients are
added up such that each process receives its share. Only training is spread: checkpoints and bundles hold whole
tensors, so that any number of processes can go on with them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from mmsa.distributed import Group
from mmsa.errors import UsageError

M = TypeVar("M", bound=nn.Module)


def check_sharding(group: Group) -> None:
    """Refuse to spread a model over one process.

    Raises:
        UsageError: says how to launch several.
    """
    if group.size == 1:
        raise UsageError(
            "sharding: full spreads the model over processes, and there is one: launch several with `torchrun "
            "--nproc-per-node N -m mmsa train …`, or leave sharding out"
        )


def sharded_copy(module: M) -> M:
    """A copy whose parameters are spread over all processes; the module itself stays as it is.

    Units that are put together at a time: the blocks that a pretrained encoder names as its own (`_no_split_modules`
    in transformers), and what is left of each module that is called from outside: the module's children, or the
    entries of a child that only holds others.

    Args:
        module: on the device, with the same parameters in every process; none of its own beside those of children.
    """
    spread = copy.deepcopy(module)
    whole = {name for part in spread.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    blocks = [part for part in spread.modules() if type(part).__name__ in whole]
    for part in (*blocks, *_called(spread)):
        sharded = fully_shard(part)
        sharded.set_gradient_divide_factor(1.0)  # gradients add up to those of the whole update
        sharded.set_force_sum_reduction_for_comms(True)  # gloo can add, and nothing else
        if hasattr(part, "target_losses"):
            register_fsdp_forward_method(part, "target_losses")
    return spread


def _called(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        parts = child.children() if isinstance(child, nn.ModuleDict | nn.ModuleList) else [child]
        yield from (part for part in parts if next(part.parameters(), None) is not None)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Spread tensors put together, on the CPU, in every process; the others as they are."""
    return {key: value.full_tensor().cpu() if isinstance(value, DTensor) else value for key, value in tensors.items()}


def spread_like(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors spread as others of the same names are; those that `like` lacks or holds whole stay as they are."""
    spread = dict(tensors)
    for key, value in like.items():
        if isinstance(value, DTensor) and key in spread:
            spread[key] = distribute_tensor(spread[key].to(value.device), value.device_mesh, value.placements)
    return spread
