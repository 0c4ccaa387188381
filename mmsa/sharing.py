"""How the processes of a training share the clips of an update and of an evaluation.

Every process plans the same updates. Of each it computes its share of the clips, and the gradients of all shares are
added up: since a term of the loss is a sum over clips, divided by what the whole update counts (see
`mmsa.losses.Objective.totals`), that is the gradient of one process that computes them all. Losses that relate clips
to each other get the outputs of all shares first.

`DistributedDataParallel` does not fit: it means gradients where shares are unequal and may be empty, wants every
parameter used by one forward call, and heads have losses beside it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsa.batching import cut_parts
from mmsa.checkpoint import random_state, restore_random_state
from mmsa.distributed import Group, current

if TYPE_CHECKING:
    from fusion import FusionOutput

Index = NDArray[np.int64]

BUCKET_NUMBERS = 1 << 23
"""Numbers of a gradient that are added up at once; while one bucket travels, the next is put together."""


class Sharing:
    """Shares updates over the processes of a group.

    Args:
        group: of more than one process.
        together: every process computes its share of every part, at the same time as the others: for losses that
            relate the clips of a part, and for parameters that lie spread over processes.
        seed: of what each process draws for its own clips.
        device: where the model is.
    """

    def __init__(self, group: Group, *, together: bool, seed: int, device: torch.device) -> None:
        self.group, self.together, self.seed, self.device = group, together, seed, device

    def pieces(self, steps: Index, batches: Sequence[Sequence[Index]], most: int | None) -> list[Index]:
        """What this process computes of an update, one piece after the other.

        Args:
            steps: `(N, M)`, steps of each clip of the update in each modality.
            batches: of the update; of each the parts that one process would compute, as positions among the `N`.
            most: padded steps of a piece, over all modalities; None is no bound.

        Returns:
            Positions among the `N`; with `together`, as many pieces in every process, else empty ones are left out.
        """
        rank, size = self.group.rank, self.group.size
        if self.together:
            return [part[rank::size] for parts in batches for part in parts]
        own = [np.concatenate(parts)[rank::size] for parts in batches]
        own = [piece for piece in own if len(piece)]
        return own if most is None else [small for piece in own for small in cut_parts(steps, piece, most)]

    @contextmanager
    def own_randomness(self, update: int) -> Iterator[None]:
        """Draw what only concerns this process's clips, such as dropout within the head, from generators of its own.

        The global ones are afterwards where they were: equal in every process. What is drawn depends on the seed, the
        update and the rank alone, so that a checkpoint need not hold it.
        """
        tensors, facts = random_state(self.device)
        own = np.random.SeedSequence([self.seed, update, self.group.rank, self.group.size]).generate_state(3)
        torch.manual_seed(int(own[0]))
        np.random.seed(int(own[1]))  # noqa: NPY002 - encoders may use it
        random.seed(int(own[2]))
        try:
            yield
        finally:
            restore_random_state(tensors, facts, self.device)

    def gather_output(self, output: FusionOutput, part: Index) -> FusionOutput:
        """The output for a whole part from what each process has of it; gradients flow back to whose clips they are.

        Args:
            output: of this process's clips, or of any one clip where it has none.
            part: all clips of the part; process `r` has those from `r` on in steps of the group's size.

        Returns:
            With rows in the order of `part`. Its `losses`, which the head made of this process's clips alone, are
            multiplied such that a mean over processes weighs them by clips.
        """
        rank, size, count = self.group.rank, self.group.size, len(part)
        sizes = [len(part[other::size]) for other in range(size)]
        columns = {
            ("prediction", ""): output.prediction,
            **{("unimodal", key): value for key, value in sorted(output.unimodal.items())},
            **{("representations", key): value for key, value in sorted(output.representations.items())},
        }
        flat = torch.cat([value.flatten(1) for value in columns.values()], dim=1)
        gathered = gather_rows(flat, max(max(sizes), 1), grad=True)
        rows = torch.empty(count, dtype=torch.int64)
        for other in range(size):
            rows[other::size] = other * max(max(sizes), 1) + torch.arange(sizes[other])
        whole = gathered[rows.to(flat.device)]
        widths = [value.flatten(1).shape[1] for value in columns.values()]
        split = dict(zip(columns, torch.split(whole, widths, dim=1), strict=True))
        named: dict[str, dict[str, Tensor]] = {"unimodal": {}, "representations": {}}
        for (kind, key), value in split.items():
            if key:
                named[kind][key] = value.reshape(count, *columns[kind, key].shape[1:])
        share = size * sizes[rank] / count
        losses = {key: share * value for key, value in output.losses.items()}
        return replace(output, prediction=split["prediction", ""], losses=losses, weights={}, **named)

    def add_up(self, sums: Tensor, modules: Sequence[nn.Module]) -> Tensor:
        """Add up every process's gradients, in place, and sums.

        A parameter that has a gradient in no process keeps none, so that the optimiser leaves it alone.

        Args:
            sums: `(K,)`.
            modules: whose gradients; those of sharded parameters are added up already.

        Returns:
            `(K,)`, over all processes.
        """
        from torch.distributed import all_reduce

        parameters = [p for module in modules for p in module.parameters() if p.requires_grad and not is_sharded(p)]
        missing = [p.grad is None for p in parameters]
        having = torch.tensor([float(not one) for one in missing], device=sums.device)
        for parameter, lacks in zip(parameters, missing, strict=True):
            if lacks:
                parameter.grad = torch.zeros_like(parameter)
        tensors = [sums.clone(), having, *(p.grad for p in parameters if p.grad is not None)]
        under_way = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            under_way.append((bucket, flat, all_reduce(flat, async_op=True)))
        for bucket, flat, work in under_way:
            work.wait()
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
        if any(missing):
            for parameter, processes in zip(parameters, having.tolist(), strict=True):
                if not processes:
                    parameter.grad = None
        return tensors[0]


def gather_rows(values: Tensor, most: int, *, grad: bool = False) -> Tensor:
    """Every process's rows, one process after the other, each with `most` rows, those beyond its own being zero.

    Args:
        values: `(n, K)`, `n` at most `most`.
        most: the largest `n` of all processes.
        grad: whether gradients flow back.
    """
    from torch.distributed import all_gather, get_world_size
    from torch.distributed.nn.functional import all_gather as all_gather_with_gradients

    padded = nn.functional.pad(values[:most], (0, 0, 0, most - len(values[:most]))).contiguous()
    if grad:
        return torch.cat(all_gather_with_gradients(padded))  # type: ignore[no-untyped-call]
    parts = [torch.empty_like(padded) for _ in range(get_world_size())]
    all_gather(parts, padded)
    return torch.cat(parts)


def is_sharded(parameter: Tensor) -> bool:
    """Whether it lies spread over processes."""
    return hasattr(parameter, "full_tensor")  # a DTensor; importing its module takes as long as torch itself


def whole_tensor(tensor: Tensor) -> Tensor:
    """One that lies spread over processes, put together in each of them, which must all ask; others as they are."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """In order; each of one type and, but for single tensors that are larger, of `BUCKET_NUMBERS` numbers at most."""
    buckets: list[list[Tensor]] = []
    held = 0
    for tensor in tensors:
        if not buckets or tensor.dtype != buckets[-1][0].dtype or held + tensor.numel() > BUCKET_NUMBERS:
            buckets.append([])
            held = 0
        buckets[-1].append(tensor)
        held += tensor.numel()
    return buckets


@dataclass(frozen=True, eq=False)
class Shares:
    """The batches of an evaluation, shared by processes.

    Attributes:
        group: that shares them.
        places: by process, which clips it answers for, in order.
        own: positions of the clips of each batch that this process computes; a process that has fewer than it must
            take part in computes one more, whose rows count for nothing.
    """

    group: Group
    places: tuple[Index, ...]
    own: tuple[Index, ...]

    def in_order(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the processes computed of all clips, in the order of the split.

        Args:
            columns: `(n, K_i)` or `(n,)`: this process's rows, in the order of `own`.

        Returns:
            `(N, K_i)` or `(N,)`, in every process.
        """
        if self.group.size == 1:
            back = torch.from_numpy(self.places[0].argsort())
            return {key: value[back.to(value.device)] for key, value in columns.items()}
        flat = torch.cat([value.reshape(len(value), -1) for value in columns.values()], dim=1)
        most = max(len(own) for own in self.places)
        gathered = gather_rows(flat[: len(self.places[self.group.rank])], most)
        rows = np.empty(sum(map(len, self.places)), np.int64)
        for rank, own in enumerate(self.places):
            rows[own] = rank * most + np.arange(len(own))
        ordered = gathered[torch.from_numpy(rows).to(gathered.device)]
        parts = torch.split(ordered, [value[:1].numel() for value in columns.values()], dim=1)
        return {
            key: part.squeeze(1) if value.dim() == 1 else part
            for (key, value), part in zip(columns.items(), parts, strict=True)
        }


def share_batches(batches: Sequence[Index], model: nn.Module) -> Shares:
    """Share batches over the processes that train together; all are this process's where it is alone.

    Args:
        batches: the same in every process, at least one.
        model: one whose parameters lie spread over processes computes as often in each of them.
    """
    group = current()
    shares = [list(batches[rank :: group.size]) for rank in range(group.size)]
    none = np.empty(0, np.int64)
    places = tuple(np.concatenate([none, *share]) for share in shares)
    own = shares[group.rank]
    if not own or (len(own) < len(shares[0]) and any(map(is_sharded, model.parameters()))):
        own = [*own, batches[0][:1]]
    return Shares(group, places, tuple(own))
