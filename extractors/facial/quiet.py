"""Keeping native libraries' start-up chatter off the error stream without hiding anything else."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# MediaPipe's graph writes these before its own log level takes effect; none of them reports a failure.
_CHATTER = re.compile(
    rb"^(?:[IW]\d{4} .*\.cc:\d+\]|INFO: Created TensorFlow Lite|WARNING: All log messages before absl::InitializeLog)"
)
_LOCK = threading.RLock()


@contextmanager
def quiet_native() -> Iterator[None]:
    """Hold back file descriptor 2, then write again what is not known chatter.

    Anything else written meanwhile, by whatever thread, appears unchanged when the block ends, also if it raises.
    """
    with _LOCK, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        saved = os.dup(2)
        try:
            os.dup2(held.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(saved, line)
            os.close(saved)
