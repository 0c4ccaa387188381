from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.imports import import_corpus
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Regression


@pytest.fixture
def sdk(csd: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "sdk"
    folder.mkdir()
    csd.write(folder / "labels.csd", "Labels", {video: csd.steps([[1.5]], 0.0, 1.0) for video in "abc"})
    (folder / "folds.json").write_text('{"train": ["a"], "valid": ["b"], "test": ["c"]}', encoding="utf-8")
    return folder


@pytest.fixture
def funny(tmp_path: Path) -> Path:
    folder = tmp_path / "urfunny"
    folder.mkdir()
    (folder / "data_folds.pkl").write_bytes(pickle.dumps({"train": [1], "dev": [2], "test": [3]}))
    (folder / "humor_label_sdk.pkl").write_bytes(pickle.dumps({1: 1, 2: 0, 3: 1}))
    return folder


@pytest.fixture
def features(tmp_path: Path) -> Path:
    one = {"audio": np.ones((2, 3, 1)), "labels": np.array([4.0, -0.5]), "id": ["a", "b"]}
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps({"train": one, "test": one}))
    return path


def test_what_is_given_decides_how_it_is_read(sdk: Path, funny: Path, features: Path, tmp_path: Path) -> None:
    tasks = [
        import_corpus(source, tmp_path / f"made-{i}", labels=labels).tasks[0]
        for i, (source, labels) in enumerate([(sdk, None), (funny, None), (features, (-4.0, 4.0))])
    ]
    assert tasks[0] == Regression("sentiment", -3, 3, "mosi")
    assert tasks[1] == Classification("humor", ("not humorous", "humorous"))
    assert tasks[2] == Regression("sentiment", -4.0, 4.0, "plain")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sdk", {"labels": "mosi"}, "is a folder of computational sequences: leave --labels out"),
        ("funny", {"padding": "left", "folds": "x"}, "is UR-FUNNY's folder: leave --padding and --folds out"),
        ("features", {"use": {"audio": "x"}}, "is a file, which is read as a pickle: leave --use out"),
    ],
)
def test_options_of_another_kind_are_refused(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        import_corpus(request.getfixturevalue(kind), tmp_path / "made", **options)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither \.csd files .* nor data_folds\.pkl"):
        import_corpus(tmp_path, tmp_path / "made")
    with pytest.raises(UsageError, match=r"cannot read .*gone"):
        import_corpus(tmp_path / "gone", tmp_path / "made")
