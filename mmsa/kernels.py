"""How many prepared kernels the processor's library keeps."""

from __future__ import annotations

import os

KEPT = 16
"""Two LSTM passes of each of several modalities, and no more."""


def bound_kernel_cache() -> None:
    """Keep few of the kernels that oneDNN prepares for every shape it meets; 1024 is its own limit.

    Clips have all lengths, so batches have all shapes: their kernels are rarely met again, and take more memory than
    model and batch together. Preparing one anew costs a few per cent of a step.

    The limit is read at torch's first use of oneDNN, so this has to come before it. One that the user has set,
    `ONEDNN_PRIMITIVE_CACHE_CAPACITY`, stands.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT))
