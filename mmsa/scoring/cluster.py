"""Ray: reaching a cluster, or making one of this machine's cores, and how its workers are laid out."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from mmsa.errors import UsageError

LOCAL = "local"
STORE_MEGABYTES = 512
"""Shared memory of a cluster of this machine alone; a part on its way takes a few megabytes."""

ENCODERS_PER_GPU = 4
"""Extracting workers that share a GPU where the model's extractors compute on one; one share is the model's."""

INFERRING_SHARE = 8
"""Without GPUs: for so many extracting workers there is one with the model, which costs a few per cent of them."""


@dataclass(frozen=True)
class Layout:
    """How many workers a stage has, and what each asks the cluster for.

    Attributes:
        extracting: workers that decode and extract, each with one CPU.
        extracting_gpus: share of a GPU that each of them has.
        inferring: workers with the model.
        inferring_gpus: share of a GPU that each of them has.
    """

    extracting: int
    extracting_gpus: float
    inferring: int
    inferring_gpus: float


def lay_out(resources: Mapping[str, float], *, jobs: int | None, encoders: bool) -> Layout:
    """The workers for a cluster.

    Args:
        resources: `"CPU"` and `"GPU"` of the whole cluster.
        jobs: extracting workers; None takes every CPU (or what its GPUs serve, with encoders).
        encoders: whether extractors of the model compute on a GPU.

    Raises:
        UsageError: the cluster has no CPU, or fewer than `jobs`.
    """
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if cpus < 1:
        raise UsageError("the Ray cluster offers no CPU: start its nodes with `ray start --num-cpus=N`")
    if jobs is not None and jobs > cpus:
        raise UsageError(f"--jobs {jobs} workers need a CPU each, but the Ray cluster has {cpus}: give --jobs {cpus}")
    if encoders and gpus:
        most = gpus * ENCODERS_PER_GPU
        share = 1 / (ENCODERS_PER_GPU + 1)
        return Layout(min(jobs or cpus, most), share, gpus, share)
    extracting = jobs or cpus
    if gpus:
        return Layout(extracting, 0.0, min(gpus, extracting), 1.0)
    return Layout(extracting, 0.0, -(-extracting // INFERRING_SHARE), 0.0)


@contextmanager
def connected(address: str, *, cpus: int | None = None, store_megabytes: int = STORE_MEGABYTES) -> Iterator[Any]:
    """The module `ray`, connected. A connection that this program has already is used, and kept.

    Nothing is sent to Ray's makers, no dashboard is started, and what workers print stays in their logs.

    Args:
        address: `"local"` makes a cluster of this machine that ends with the block; `"auto"` and `HOST:PORT` are a
            cluster that this machine is a node of.
        cpus: of a local cluster; None is all cores.
        store_megabytes: of a local cluster, see `STORE_MEGABYTES`.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """
    if address.startswith("ray://"):
        raise UsageError(
            f"{address}: Ray's client protocol cannot stream results. Run mmsa on a node of the cluster (its head, or "
            "a machine joined by `ray start --address=HEAD:6379`) with --ray auto, or give --ray HEAD:6379 there"
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"--ray needs Ray, which is not there ({error}): pip install 'mmsa-framework[ray]'") from None
    with ExitStack() as stack:
        if not ray.is_initialized():
            options = _local(stack, cpus, store_megabytes) if address == LOCAL else {}
            stack.callback(ray.shutdown)
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
            except Exception as error:  # noqa: BLE001 - a bare one where a node takes too long to start
                reason = " ".join(str(error).split())[:300]
                raise UsageError(
                    f"no Ray cluster answers at {address!r} ({reason}). Allowed: local (this machine alone), auto or "
                    "HOST:PORT (from a node of a running cluster: `ray start --head` makes one)"
                ) from None
        stack.enter_context(_quiet())
        yield ray


def _local(stack: ExitStack, cpus: int | None, store_megabytes: int) -> dict[str, Any]:
    """Options of a cluster of this machine; its workers import what this program can import."""
    # Ray would let its workers run after everything else on the machine (nice 15); they are this program's work.
    settings = {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path), "RAY_worker_niceness": "0"}
    for name, value in settings.items():
        stack.callback(_restore, name, os.environ.get(name))
        os.environ[name] = value
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmsa-ray-", ignore_cleanup_errors=True))
    return {
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": store_megabytes * 2**20,
        "_temp_dir": folder,
    }


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray tells of each worker that ends on standard output, where rows go, and of much else; its logs hold it all."""
    from ray._private import worker

    logger, shown = logging.getLogger("ray.data"), getattr(worker, "_worker_logs_enabled", True)
    handlers = [handler for handler in logger.handlers if isinstance(handler, logging.StreamHandler)]
    worker._worker_logs_enabled = False
    for handler in handlers:
        logger.removeHandler(handler)
    try:
        yield
    finally:
        worker._worker_logs_enabled = shown
        for handler in handlers:
            logger.addHandler(handler)
