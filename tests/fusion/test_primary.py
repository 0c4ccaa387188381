from __future__ import annotations

import pytest

from fusion.primary import choose_primary


def test_text_comes_first_then_the_alphabet_unless_asked() -> None:
    assert choose_primary(("audio", "text", "vision"), None) == "text"
    assert choose_primary(("voice", "gaze", "ecg"), None) == "ecg"
    assert choose_primary(("audio", "text"), "audio") == "audio"


def test_an_unknown_primary_is_named() -> None:
    with pytest.raises(ValueError, match="primary must be one of audio, text, not 'vision'"):
        choose_primary(("text", "audio"), "vision")
