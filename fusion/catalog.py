"""What heads there are, from one source: the package's `__all__`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import fusion
from fusion.head import FusionHead

REFERENCE_DIMS = {"text": 768, "audio": 5, "vision": 20}
"""Features per step of CMU-MOSI in its most used release; `describe` counts parameters at this size."""


@dataclass(frozen=True)
class HeadDescription:
    """One row of the table of heads.

    Attributes:
        name: short name, as the command line takes it.
        class_name: name in `fusion`.
        family: family of methods.
        paper: source.
        needs_alignment: whether all modalities must share their steps.
        minimum_modalities: fewest modalities it fuses.
        parameters: trainable parameters at `REFERENCE_DIMS` with one output and default sizes.
    """

    name: str
    class_name: str
    family: str
    paper: str
    needs_alignment: bool
    minimum_modalities: int
    parameters: int


def head_classes() -> dict[str, type[FusionHead]]:
    """Every head of `fusion.__all__` by its short name, in the order of `__all__`."""
    members = (getattr(fusion, name) for name in fusion.__all__)
    heads = (m for m in members if isinstance(m, type) and issubclass(m, FusionHead) and m is not FusionHead)
    return {head.name: head for head in heads}


def head_class(name: str) -> type[FusionHead]:
    """A head by its short name or its class name.

    Raises:
        ValueError: no such head; the message names the nearest.

    Example:
        >>> head_class("late") is head_class("LateFusion")
        True
    """
    heads = head_classes()
    by_any = {**heads, **{head.__name__: head for head in heads.values()}}
    if name not in by_any:
        near = difflib.get_close_matches(name.lower(), heads, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no fusion head is called {name!r}.{hint} There are: {', '.join(heads)}")
    return by_any[name]


def describe(name: str) -> HeadDescription:
    """What a head is, by its short name or its class name.

    Raises:
        ValueError: no such head.
    """
    head = head_class(name)
    built = head(REFERENCE_DIMS, 1)
    return HeadDescription(
        name=head.name,
        class_name=head.__name__,
        family=head.family,
        paper=head.paper,
        needs_alignment=head.needs_alignment,
        minimum_modalities=head.minimum_modalities,
        parameters=sum(p.numel() for p in built.parameters() if p.requires_grad),
    )
