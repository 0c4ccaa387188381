from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mmsa.scoring.colours import DARK, LIGHT, class_colours


def test_usual_names_keep_their_colour_and_others_take_the_free_ones() -> None:
    assert class_colours(["sadness", "happy"]) == class_colours(["sad", "joy"]) == [1, 0]
    odd = class_colours(["zest", "anger", "awe"])
    assert odd[1] == class_colours(["anger"])[0]
    assert len(set(odd)) == 3


def test_two_names_of_one_feeling_differ_within_a_task() -> None:
    assert len(set(class_colours(["joy", "happiness", "anger"]))) == 3


def test_many_classes_use_colours_again() -> None:
    found = class_colours([f"class {k}" for k in range(20)])
    assert set(found) == set(range(8))


def _seen(colour: str, weakness: str) -> np.ndarray:
    """Linear RGB as people without one kind of cone see it (Viénot, Brettel and Mollon 1999)."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]) ** 2.2
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    loss = {
        "protan": [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
        "deutan": [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
    }
    return np.clip(np.linalg.inv(to_lms) @ np.array(loss[weakness]) @ to_lms @ rgb, 0, 1) ** (1 / 2.2)


@pytest.mark.parametrize("shades", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("weakness", ["protan", "deutan"])
def test_all_pairs_differ_without_red_or_green_cones(shades: tuple[str, ...], weakness: str) -> None:
    for one, other in combinations(shades, 2):
        apart = float(np.linalg.norm(_seen(one, weakness) - _seen(other, weakness)))
        assert apart > 0.08, (one, other, apart)
