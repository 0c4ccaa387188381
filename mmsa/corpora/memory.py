"""A bound on the memory that a library may take while it reads what cannot be trusted."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def memory_limit(extra_bytes: int) -> Iterator[None]:
    """Let allocations fail, rather than the machine, where they go beyond what is held now by so much.

    The limit is the process's own, and that of every thread in it. It needs Linux's `/proc`; elsewhere there is none.

    Args:
        extra_bytes: how much more may be taken.

    Example:
        >>> with memory_limit(2**30):
        ...     held = bytes(2**20)
    """
    status = Path("/proc/self/statm")
    if not status.is_file():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(status.read_text(encoding="ascii").split()[0]) * resource.getpagesize() + extra_bytes
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
