"""Whether two ways of scoring gave the same rows."""

from __future__ import annotations

from typing import Any

TOLERANCE = 1e-6
"""How far two numbers may lie apart."""


def distance(one: Any, other: Any) -> float:
    """The largest difference of two numbers at one place; infinity where anything else differs."""
    if isinstance(one, dict) and isinstance(other, dict) and set(one) == set(other):
        return max((distance(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(distance, one, other), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    return 0.0 if one == other else float("inf")
