from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.corpora.folds import find_folds, read_folds
from mmsa.errors import UsageError

EXPECTED = {"a-1": "train", "b": "train", "c": "valid", "d": "test"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "cmu_mosi_std_folds.py",
            "# lists\nstandard_train_fold=['a-1',\n  'b']\nstandard_valid_fold=['c']\nstandard_test_fold=('d',)\n"
            "other = 3\nimport os\nos.abort()\n",
        ),
        ("folds.json", '{"train": ["a-1", "b"], "dev": ["c"], "test": ["d"], "comment": "mine"}'),
        (
            "split.json",
            '{"standard_train_fold": ["a-1", "b"], "standard_valid_fold": ["c"], "standard_test_fold": ["d"]}',
        ),
        ("label.csv", "video_id,clip_id,mode\na-1,1,train\na-1,2,train\nb,1,train\nc,1,valid\nd,1,test\n"),
    ],
)
def test_every_form_says_the_same_and_none_is_run(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert find_folds(tmp_path) == tmp_path / name
    assert read_folds(tmp_path / name) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"train": ["a"], "valid": ["b"], "test": ["a"]}', "puts the video a into both train and test"),
        ("a.json", '{"train": ["a"], "valid": ["b"]}', "names no video for test: give the SDK's own list"),
        ("a.json", '{"train": [1]}', "train must be a list of video ids"),
        ("a.json", "[1]", "must hold an object with the lists train, valid and test"),
        ("a.json", "{", "cannot be read"),
        ("a.py", "standard_train_fold = [open('/etc/passwd')]", "cannot be read"),
        ("a.py", "standard_train_fold = ['a'", "cannot be read"),
        ("a.csv", "video_id,mode\na,train\nb,maybe\n", "line 3, column mode: must be one of train, valid"),
        ("a.csv", "video_id,mode\na,train\nb,valid\nc,test\na,test\n", "puts the video a into both train and test"),
    ],
)
def test_what_is_no_split_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_folds(tmp_path / name)


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**25)
    with pytest.raises(UsageError, match="has 33,554,432 bytes, too many for lists of videos"):
        read_folds(tmp_path / "a.json")


def test_where_nothing_or_too_much_is_found_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not say which video .* --folds, the SDK's own list .*folds\.json"):
        find_folds(tmp_path)
    with pytest.raises(UsageError, match=r"no file .*gone: give the SDK's own list"):
        read_folds(tmp_path / "gone")
    for name in ("cmu_mosi_std_folds.py", "cmu_mosei_std_folds.py"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"holds cmu_mosei_std_folds\.py, cmu_mosi_std_folds\.py: name one with"):
        find_folds(tmp_path)
