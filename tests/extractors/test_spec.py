"""`ExtractorSpec`: its fingerprint and its way through JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.spec import ExtractorSpec

SPEC = ExtractorSpec("speech.librosa", "librosa", "0.11.0+1", {"hop_seconds": 0.02, "mfcc_count": 13})


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.none())))
def test_round_trip(parameters: dict[str, object]) -> None:
    spec = ExtractorSpec("x.y", "tool", "1", parameters, {"model": "/somewhere"})
    again = ExtractorSpec.from_json(spec.to_json())
    assert again == spec
    assert again.hints == spec.hints
    assert again.fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        ExtractorSpec("speech.other", SPEC.tool, SPEC.version, SPEC.parameters),
        ExtractorSpec(SPEC.name, "other", SPEC.version, SPEC.parameters),
        ExtractorSpec(SPEC.name, SPEC.tool, "0.11.0+2", SPEC.parameters),
        ExtractorSpec(SPEC.name, SPEC.tool, SPEC.version, {**SPEC.parameters, "mfcc_count": 14}),
    ],
)
def test_whatever_changes_a_number_changes_the_fingerprint(other: ExtractorSpec) -> None:
    assert other != SPEC
    assert other.fingerprint != SPEC.fingerprint


def test_order_and_hints_do_not_change_the_fingerprint() -> None:
    shuffled = dict(reversed(SPEC.parameters.items()))
    moved = ExtractorSpec(SPEC.name, SPEC.tool, SPEC.version, shuffled, {"model": "/elsewhere"})
    assert moved == SPEC
    assert moved.fingerprint == SPEC.fingerprint
    assert "hints" not in SPEC.to_dict()


def test_unknown_and_missing_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has the keys \['name'.*not \['colour'"):
        ExtractorSpec.from_dict({**SPEC.to_dict(), "colour": "red"})
    with pytest.raises(ValueError, match="and maybe 'hints', not"):
        ExtractorSpec.from_dict({"name": "x"})
