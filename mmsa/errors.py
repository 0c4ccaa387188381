"""The error that the command line turns into a message and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """What was asked for cannot be done; the message says what was given, what is allowed and what to do."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest one that does.

    Example:
        >>> str(unknown("corpus", "mled", ["demo", "meld"]))
        "there is no corpus 'mled'. Did you mean 'meld'? Allowed: demo, meld"
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"there is no {kind} {given!r}.{hint} Allowed: {', '.join(names)}")
