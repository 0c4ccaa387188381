from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import fusion
from fusion.catalog import REFERENCE_DIMS, describe, head_class, head_classes
from fusion.head import FusionHead


def test_every_head_of_the_package_is_public() -> None:
    """One source: a head in any module of `fusion` stands in `__all__` under a short name of its own."""
    defined = set()
    for module in pkgutil.iter_modules(fusion.__path__):
        members = vars(importlib.import_module(f"fusion.{module.name}")).values()
        defined |= {
            m for m in members if isinstance(m, type) and issubclass(m, FusionHead) and not inspect.isabstract(m)
        }
    public = set(head_classes().values())
    assert {head for head in defined if "name" in vars(head)} == public
    assert len(head_classes()) == len(public)


@pytest.mark.parametrize("name", head_classes())
def test_a_head_is_found_by_either_name(name: str) -> None:
    assert head_class(name) is head_class(head_class(name).__name__)


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(ValueError, match=r"no fusion head is called 'mutl'\. Did you mean 'mult'\? There are: .*late"):
        head_class("mutl")
    with pytest.raises(ValueError, match=r"no fusion head is called '§§§'\. There are"):
        head_class("§§§")


def test_description_counts_by_hand() -> None:
    """`late` is known to have no tensor besides its registered parameters; count them one by one."""
    head = head_class("late")(REFERENCE_DIMS, 1)
    row = describe("LateFusion")
    assert row.name == "late"
    assert row.class_name == "LateFusion"
    assert row.minimum_modalities == head.minimum_modalities
    assert row.needs_alignment is head.needs_alignment
    assert row.parameters == sum(value.numel() for value in head.state_dict().values())
