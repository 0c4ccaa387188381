from __future__ import annotations

import pytest

from mmsa.commands.console import names, plain, seed_numbers
from mmsa.errors import UsageError


def test_names_are_split_at_commas_and_empty_ones_left_out() -> None:
    assert names("text, audio,,vision ,") == ("text", "audio", "vision")
    assert names(None) is None
    assert names("") == ()


def test_seeds_keep_their_order() -> None:
    assert seed_numbers("3,1,02") == (3, 1, 2)


@pytest.mark.parametrize("given", ["", "1,", "one", "1.5", "1,1", "-1"])
def test_what_is_no_list_of_seeds_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        seed_numbers(given)


def test_markup_is_shown_as_it_is() -> None:
    from rich.text import Text

    assert Text.from_markup(plain("[bold]a[/] [x]")).plain == "[bold]a[/] [x]"
