from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmsa.benchmarking import work
from mmsa.benchmarking.store import SplitPredictions, load_result
from mmsa.benchmarking.work import Item, check_classical, close_shops, machine, open_shop, shop_key, train_item
from mmsa.config import make_config
from mmsa.errors import UsageError
from mmsa.recipe import HeadEntry, Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _closed() -> None:
    close_shops()


def item_of(recipe: Recipe, place: int, folder: Path) -> Item:
    entry = recipe.heads[place]
    seed = None if entry.classical else 2
    config = recipe.config(entry, seed=seed).model_copy(update={"experiment": "x", "checkpoints": False})
    return Item(entry, config, seed, "identity", folder)


def test_what_is_kept_is_what_the_bundle_says(workspace: Path, recipe_on: MakeRecipe) -> None:
    """The kept predictions equal those of the model, one clip at a time, with and without a modality."""
    from mmsa.bundle import load_bundle
    from mmsa.tracking import find_bundle

    threads = torch.get_num_threads()
    item = item_of(recipe_on(), 0, workspace / "run")
    result = train_item(item)
    assert torch.get_num_threads() == threads
    assert load_result(item.folder) == result
    assert (result.row, result.head, result.seed, result.modalities) == ("late", "late", 2, ("eeg", "text"))
    assert result.epochs == 2
    model = load_bundle(find_bundle(result.run_id)).model
    assert result.parameters == sum(p.numel() for p in model.parameters())
    kept = SplitPredictions.load(item.folder / "test.npz")
    data = open_shop(item.config).split("test")
    for i in range(len(data)):
        batch = data.batch(np.array([i]))
        for outputs, inputs in (
            (kept.outputs, batch.inputs),
            (kept.subsets["text"], {"text": batch.inputs["text"]}),
            (kept.subsets["eeg"], {"eeg": batch.inputs["eeg"]}),
        ):
            with torch.no_grad():
                expected = model(inputs).prediction[0].numpy()
            found = np.concatenate([outputs["sentiment"][i], outputs["emotion"][i]])
            assert np.allclose(found, expected, atol=1e-5)
    assert kept.clips == tuple(clip.id for clip in data.clips)


def test_the_classical_head_is_kept_in_the_same_form(workspace: Path, recipe_on: MakeRecipe) -> None:
    item = item_of(recipe_on(), 1, workspace / "run")
    result = train_item(item)
    assert (result.seed, result.epochs, result.machine) == (None, 0, machine())
    assert set(result.choice) == {"sentiment", "emotion"}
    kept = SplitPredictions.load(item.folder / "test.npz")
    assert set(kept.subsets) == {"eeg", "text"}
    assert kept.outputs["emotion"].shape == (10, 2)
    again = train_item(replace(item, folder=workspace / "again"))
    other = SplitPredictions.load(workspace / "again" / "test.npz")
    assert all(np.array_equal(kept.outputs[task], other.outputs[task]) for task in kept.outputs)
    assert again.choice == result.choice


def test_a_corpus_is_opened_once(workspace: Path, recipe_on: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmsa.workshop

    opened = []
    real = mmsa.workshop.open_workshop
    monkeypatch.setattr(mmsa.workshop, "open_workshop", lambda config: opened.append(config) or real(config))
    recipe = recipe_on()
    config = recipe.config(recipe.heads[0])
    shops = [open_shop(config.model_copy(update={"seed": seed, "epochs": seed})) for seed in (1, 2)]
    assert shops[0] is shops[1]
    assert len(opened) == 1
    open_shop(config.model_copy(update={"modalities": ("text",)}))
    assert len(opened) == 2
    assert len(work._shops) == 2


def test_a_workshop_is_known_by_what_it_holds() -> None:
    base = shop_key(make_config(None, {"seed": 1}))
    assert shop_key(make_config(None, {"seed": 2, "fusion": "early", "epochs": 3})) == base
    changes = [{"corpus": "meld"}, {"modalities": ["text"]}, {"tasks": ["emotion"]}, {"extractors.text.name": "x"}]
    assert len({base, *(shop_key(make_config(None, change)) for change in changes)}) == 5


def test_unknown_options_of_the_classical_head() -> None:
    check_classical(HeadEntry(head="svm", options={"kernels": ["rbf"], "costs": [1], "widths": [1]}))  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="row 'svm': the head 'svm' takes no kernel; its options are functionals"):
        check_classical(HeadEntry(head="svm", options={"kernel": "rbf"}))  # type: ignore[call-arg]


def test_the_machine_is_described_and_not_named() -> None:
    import platform

    assert "cores" in machine()
    assert platform.node() not in machine()
