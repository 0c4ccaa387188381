from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmsa.config import TrainConfig
from mmsa.errors import UsageError
from mmsa.runs import train_seeds
from mmsa.workshop import choose_device, model_config, open_workshop


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **values})


def test_splits_share_what_was_opened(untrained: TrainConfig) -> None:
    shop = open_workshop(untrained)
    train, valid = shop.split("train"), shop.split("valid", torch.device("cpu"))
    assert train.steps["audio"] is valid.steps["audio"]
    assert len(train) == 16
    for key, table in shop.tables.items():
        (batch,) = valid.batches(8)
        rows = np.concatenate([table.values[table.offsets[row] : table.offsets[row + 1]] for row in valid.rows])
        np.testing.assert_array_equal(batch.inputs[key].values[batch.inputs[key].mask].numpy(), rows)


def test_heads_with_pseudo_labels_are_told_which_outputs_are_scores(untrained: TrainConfig) -> None:
    shop = open_workshop(changed(untrained, tasks=("emotion", "sentiment")))
    options = model_config(changed(untrained, fusion="self_mm"), shop).head_options
    assert options == {"label_columns": [2], "label_range": 1.0, "hidden_dim": 6}
    assert model_config(untrained, shop).head_options == {"hidden_dim": 6}
    given = changed(untrained, fusion="self_mm", head={"label_range": 2.0})
    assert model_config(given, shop).head_options == {"label_columns": [2], "label_range": 2.0}


def test_options_are_judged_by_the_sizes_of_the_corpus(untrained: TrainConfig) -> None:
    """Emotion has two outputs and sentiment one: output 2 is there, output 3 is not."""
    config = changed(untrained, fusion="self_mm", tasks=("emotion", "sentiment"))
    run = next(train_seeds(changed(config, head={"hidden_dim": 4, "label_columns": [2]}), (1,)))
    assert run.head == "self_mm"
    with pytest.raises(UsageError, match=r"label_columns must be different outputs in 0\.\.2, not \(3,\)"):
        open_workshop(changed(config, head={"hidden_dim": 4, "label_columns": [3]}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"select": "sentiment.acc"}, "measure to select on 'sentiment.acc'. Did you mean"),
        ({"loss": {"task_weights": {"emotio": 2.0}}}, "task, for loss.task_weights, 'emotio'. Did you mean 'emotion'"),
    ],
    ids=["select", "loss"],
)
def test_losses_and_selection_are_checked_before_any_work(
    untrained: TrainConfig, small: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_workshop(changed(untrained, **values))
    assert not small.CALLS


def test_a_corpus_without_a_validation_split(untrained: TrainConfig, small: Any, tmp_path: Path) -> None:
    assert untrained.root is not None
    for path in untrained.root.glob("t*-*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match="the corpus small has no valid split: training needs train, valid and test"):
        open_workshop(changed(untrained, root=tmp_path))
    assert not small.CALLS


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device 'cuda' was asked for, but torch sees none"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
