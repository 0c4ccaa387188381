"""The processes that train one model together, as `torchrun` or `accelerate launch` started them.

A process learns from its environment that it was launched beside others; `join` makes them a `Group`. What they tell
each other beside gradients and predictions (the run's id, a checkpoint, that features are there, that one of them
failed) goes through a second group of gloo connections that wait for as long as it takes: an extraction may last for
hours, and a process that dies closes its connections, which ends the wait at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mmsa.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

T = TypeVar("T")

COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Environment variables that hold the number of processes: of torchrun and accelerate, of Open MPI under accelerate."""

PATIENCE = timedelta(days=20)
"""How long processes wait for each other outside of updates; the limit is below 2**31 milliseconds."""

MEETING_SECONDS = 10
"""How long a process that failed waits for the main one to fail of the same, so that the message comes once."""


class LostProcessError(UsageError):
    """Another process of the training ended."""


def launched() -> int:
    """How many processes were launched together; 1 where this one is alone. Asks the environment only."""
    if "MASTER_ADDR" not in os.environ:
        return 1
    return max((int(os.environ[name]) for name in COUNTS if os.environ.get(name, "").isdigit()), default=1)


def is_main() -> bool:
    """Whether this process is the one that prints, tracks and writes. Asks the environment only."""
    return launched() == 1 or int(os.environ.get("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))) == 0


def refuse_launch(what: str) -> None:
    """Say that something is not for several processes.

    Raises:
        UsageError: this process was launched beside others.
    """
    if launched() > 1:
        raise UsageError(
            f"{what} is not for {launched()} launched processes, each of which would do all of it: of mmsa's commands, "
            "`torchrun` and `accelerate launch` share the work of `mmsa train` alone. Start it without them"
        )


@dataclass(frozen=True)
class Group:
    """The processes that train one model together; one that is alone is a group, too.

    Attributes:
        rank: of this process, from 0, which is the main one.
        size: how many there are.
        local_rank: of this process among those on its machine.
        patient: connections that wait for as long as it takes; None where there is one process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    patient: ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints, tracks and writes."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """What each process has, by rank; every process must ask."""
        if self.size == 1:
            return [value]
        from torch.distributed import all_gather_object

        values: list[Any] = [None] * self.size
        with self.stopping_together():
            all_gather_object(values, value, group=self.patient)
        return values

    def share(self, make: Callable[[], T]) -> T:
        """What the main process makes, in every process.

        Args:
            make: called in the main process; what it returns is picklable.

        Raises:
            UsageError: what `make` raised, in every process.
        """
        if self.size == 1:
            return make()
        from torch.distributed import broadcast_object_list

        told: list[Any] = [None]
        if self.is_main:
            try:
                told = [make()]
            except UsageError as error:
                told = [error]
        with self.stopping_together():
            broadcast_object_list(told, src=0, group=self.patient)
        if isinstance(told[0], UsageError):
            raise told[0]
        made: T = told[0]
        return made

    def in_turns(self, make: Callable[[], T]) -> T:
        """Make the same in every process, first in one of each machine, so that the others find what it left.

        Args:
            make: called once in every process.

        Raises:
            UsageError: one of them failed; the same is raised in every process.
        """
        if self.size == 1:
            return make()
        made: list[T] = []
        for own in (self.local_rank == 0, self.local_rank != 0):
            failure: UsageError | None = None
            if own:
                try:
                    made.append(make())
                except UsageError as error:
                    failure = error
            failures = self.gather(failure)
            found = next((rank for rank, error in enumerate(failures) if error is not None), None)
            if found is not None:
                where = "" if found == 0 else f"process {found} of {self.size}: "
                raise UsageError(f"{where}{failures[found]}")
        return made[0]

    def must_agree(self, facts: Mapping[str, Any]) -> None:
        """Refuse to train together where processes do not have the same.

        Args:
            facts: JSON values by name.

        Raises:
            UsageError: says what differs where, in every process.
        """
        every = self.gather(_flat(facts))
        for rank, other in enumerate(every):
            names = [name for name in {**every[0], **other} if every[0].get(name) != other.get(name)]
            if names:
                told = "; ".join(f"{name}: {other.get(name)!r} there, {every[0].get(name)!r} here" for name in names)
                raise UsageError(
                    f"process {rank} of {self.size} would not train what process 0 trains ({told}): start all with the "
                    "same command on the same data"
                )

    def decide(self, choice: bool) -> bool:
        """What the main process says, in every process: a last digit must not make one of them stop alone."""
        return choice if self.size == 1 else self.share(lambda: choice)

    def same_weights(self, module: nn.Module) -> None:
        """Give a module the main process's parameters and buffers."""
        if self.size == 1:
            return
        for tensor in (*module.parameters(), *module.buffers()):
            broadcast_tensor(tensor.detach())

    @contextmanager
    def stopping_together(self) -> Iterator[None]:
        """Say what it means when a connection breaks.

        Raises:
            LostProcessError: another process ended.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_lost_connection(error):
                raise
            raise LostProcessError(
                f"another of the {self.size} processes ended (killed, out of memory, or with the error that it "
                f"printed), and so does process {self.rank}. When the cause is mended, launch `mmsa train --resume "
                "latest` to go on with a run that had begun"
            ) from error

    def main_failed_too(self) -> bool:
        """Whether the main process fails in this moment, too; never waits long."""
        from torch.distributed import monitored_barrier

        try:
            monitored_barrier(self.patient, timeout=timedelta(seconds=MEETING_SECONDS))
        except RuntimeError:
            return False
        return True


ALONE = Group()
_group = ALONE


def current() -> Group:
    """The group that this process has joined; itself alone where it has joined none."""
    return _group


def join() -> Group:
    """Join the processes that were launched with this one; of no effect for one that is alone or has joined already.

    What lies on CUDA devices goes through NCCL, what lies on CPUs through gloo.
    """
    global _group
    if _group.size > 1 or launched() == 1:
        return _group
    import atexit

    import torch
    from accelerate import PartialState

    if _local_size() <= torch.cuda.device_count():
        state = PartialState(backend="cuda:nccl,cpu:gloo")
    else:
        state = PartialState(cpu=True, timeout=PATIENCE)
    atexit.register(state.destroy_process_group)
    patient = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    _group = Group(state.process_index, state.num_processes, state.local_process_index, patient)
    return _group


def own_device(device: torch.device) -> torch.device:
    """The CUDA device of this process among those of its machine; other devices as they are.

    Raises:
        UsageError: more processes than CUDA devices on this machine.
    """
    import torch

    if device.type != "cuda" or _group.size == 1:
        return device
    if _local_size() > torch.cuda.device_count():
        raise UsageError(
            f"{_local_size()} processes on a machine with {torch.cuda.device_count()} CUDA device(s): launch as many "
            "as there are devices, or give --device cpu"
        )
    return torch.device("cuda", _group.local_rank)


def _local_size() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", launched())))


def broadcast_tensor(tensor: Tensor, group: ProcessGroup | None = None) -> None:
    """Overwrite a tensor, of any type, with the main process's.

    Args:
        tensor: of one shape and type in every process.
        group: None is the one that gradients go through.
    """
    import torch
    from torch.distributed import broadcast

    if tensor.numel():
        whole = tensor.contiguous()
        broadcast(whole.view(-1).view(torch.uint8), src=0, group=group)  # gloo knows no booleans
        if whole is not tensor:
            tensor.copy_(whole)


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        inner = {f"{name}.{key}": own for key, own in value.items()} if isinstance(value, Mapping) else {name: value}
        flat.update(inner)
    return flat


def _is_lost_connection(error: RuntimeError) -> bool:
    from torch.distributed import DistError

    text = str(error)
    return isinstance(error, DistError) or "gloo" in text or "Connection closed by peer" in text
