"""Checkpoints of a training: one file, tensors and plain JSON, that appears whole or not at all."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmsa.errors import UsageError

FORMAT = 1
FILE = "checkpoint.safetensors"
LOCK = "lock"
FACTS = "mmsa"
"""Key of the JSON part in the file's metadata."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training goes on from.

    Attributes:
        tensors: by dotted name.
        facts: everything else, JSON values.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix` and a dot, without these."""
        start = f"{prefix}."
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}


class Checkpoints:
    """The checkpoint of one run: the newest alone, which each new one replaces.

    Args:
        folder: of this run alone.
        identity: JSON values, by name, of what must be the same for a training to go on.
        environment: JSON values, by name, that are written beside it.
        every_updates: also within epochs, after so many updates.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        environment: Mapping[str, Any] | None = None,
        *,
        every_updates: int | None = None,
    ) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        self.environment = dict(environment or {})
        self.every_updates = every_updates

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write beside the last one, then replace it, so that one of the two is always whole.

        Raises:
            UsageError: it cannot be written; the last one is still there.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        about = {"format": FORMAT, "identity": self.identity, "environment": self.environment, **facts}
        partial: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=self.folder)
            partial = Path(name)
            try:
                save_file(_own_memory(tensors), partial, {FACTS: json.dumps(about)})
                os.fsync(handle)
            finally:
                os.close(handle)
            partial.replace(self.path)
            _sync_folder(self.folder)
        except (OSError, SafetensorError) as error:
            last = "the last one is still there" if self.path.is_file() else "there is none yet"
            raise UsageError(
                f"the checkpoint {self.path} cannot be written ({error}); {last}. Make room and go on with "
                "`mmsa train --resume RUN`, or train without (--set checkpoints=false)"
            ) from None
        finally:
            if partial is not None:
                partial.unlink(missing_ok=True)

    def load(self) -> Checkpoint | None:
        """The newest one, or None where there is none. Nothing in the file is executed.

        Raises:
            UsageError: it is damaged, of another version of mmsa, or of another training.
        """
        found = read_checkpoint(self.folder)
        if found is None:
            return None
        before, now = found.facts["identity"], self.identity
        changed = [
            f"{key}: {_differs(before.get(key), now.get(key))}"
            for key in {**before, **now}
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise UsageError(
                f"the run cannot be gone on with, since what it was trained on has changed ({'; '.join(changed)}): "
                "put it back as it was, or start a new run"
            )
        return found

    def delete(self) -> None:
        """Remove the file and all that killed writers left; the folder, too, where nothing else is in it."""
        for path in (self.path, *self.folder.glob(".*.partial")):
            path.unlink(missing_ok=True)
        (self.folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run while it is trained; the system lets go when the process ends, however it does.

        Raises:
            UsageError: another process trains it.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"another process is training this run (it holds {self.folder / LOCK})") from None
        try:
            for left in self.folder.glob(".*.partial"):
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder, or None where there is none.

    Raises:
        UsageError: it is damaged or of another version of mmsa.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UsageError(f"the checkpoint {path} is damaged ({error}): start the run again") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UsageError(f"the checkpoint {path} was written by another version of mmsa: start the run again")
    return Checkpoint(tensors, facts)


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name: those of the state dict and those that it leaves out.

    What a head remembers of the training clips (Self-MM's pseudo-labels) belongs to no bundle, and so to no state
    dict, but a training that goes on must have it.

    Raises:
        UsageError: the module's state holds something that is no tensor.
    """
    state = dict(module.state_dict())
    odd = sorted(key for key, value in state.items() if not isinstance(value, Tensor))
    if odd:
        raise UsageError(f"{', '.join(odd)} of the head's state is no tensor: it cannot be kept in a checkpoint")
    return {**dict(module.named_buffers()), **state}


def restore_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `module_tensors` gave; buffers outside of the state dict may have another size than now.

    Raises:
        RuntimeError: what belongs to the state dict does not fit.
    """
    kept = module.state_dict()
    module.load_state_dict({key: tensors[key] for key in kept})
    for name, buffer in list(module.named_buffers()):
        if name not in kept:
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, tensors[name].to(buffer.device))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory, by number of the parameter and name."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{key}": value for number, own in state.items() for key, value in own.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; settings of the groups stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def random_state(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Where Python's, numpy's and torch's global generators stand."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - others may use it
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    facts = {"python": [version, list(words), gauss], "numpy": [str(name), position, has_gauss, cached]}
    return tensors, facts


def restore_random_state(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], device: torch.device) -> None:
    """Put back what `random_state` gave."""
    version, words, gauss = facts["python"]
    random.setstate((version, tuple(words), gauss))
    name, position, has_gauss, cached = facts["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, none sharing memory with another: tied weights are written once per name."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, value in tensors.items():
        copied = value.detach().cpu().contiguous()
        place = copied.untyped_storage().data_ptr()
        own[key] = copied.clone() if place in seen or copied.untyped_storage().nbytes() != copied.nbytes else copied
        seen.add(place)
    return own


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _differs(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return ", ".join(f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in keys)
    return f"was {before!r} and is {now!r}"
