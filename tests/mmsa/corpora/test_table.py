from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmsa.config import make_config
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip
from mmsa.corpora.table import find_table, load_table, read_table
from mmsa.errors import UsageError
from mmsa.precomputed import open_precomputed
from mmsa.runs import train
from mmsa.tasks import Classification, MultiLabel, Regression

WriteTable = Callable[..., Path]
TASKS = {
    "sentiment": {"kind": "regression", "low": -3, "high": 3, "metrics": "mosi"},
    "emotion": {"kind": "classification", "classes": ["calm", "glad"]},
}
HEADER = "id,split,media,start_seconds,end_seconds,transcript,speaker,dialogue,turn,sentiment,emotion"


@pytest.fixture
def write(tmp_path: Path) -> WriteTable:
    """`(*rows, header=…, description keys…)` → a CSV table with its description."""

    def written(*rows: str, header: str = HEADER, stem: str = "mine", **described: Any) -> Path:
        path = tmp_path / f"{stem}.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps({"tasks": TASKS, **described}), encoding="utf-8")
        return path

    return written


def test_every_column_is_read(write: WriteTable, tmp_path: Path) -> None:
    path = write(
        'a,train,one/a.mp4,1.5,2.5,"Well, yes",Ann,d1,0,-1.5,glad',
        "b,valid,,,,,,,,,",
        "",
        "c,test,c.wav,,3,Oh,,,,3,",
        note="Staged.",
        media_root="../media",
        default_tasks=["emotion"],
    )
    corpus = load_table(path)
    media = tmp_path / ".." / "media"
    assert corpus.name == "mine"
    assert corpus.note == "Staged."
    assert corpus.default_tasks == ("emotion",)
    assert corpus.tasks == (Regression("sentiment", -3.0, 3.0, "mosi"), Classification("emotion", ("calm", "glad")))
    labels: dict[str, float | str] = {"sentiment": -1.5, "emotion": "glad"}
    assert corpus.clips == (
        Clip("a", "train", labels, media / "one" / "a.mp4", "Well, yes", 1.5, 2.5, "Ann", "d1", 0),
        Clip("b", "valid", {}),
        Clip("c", "test", {"sentiment": 3.0}, media / "c.wav", "Oh", None, 3.0),
    )


def test_a_multi_label_task_names_the_classes_that_hold(write: WriteTable, tmp_path: Path) -> None:
    """In Parquet they may also be lists."""
    tasks = {"signs": {"kind": "multi-label", "classes": ["smile", "nod"]}}
    rows = ["a,train,nod | smile", "b,train,-", "c,test,smile", "d,test,"]
    corpus = load_table(write(*rows, header="id,split,signs", tasks=tasks))
    expected = [{"signs": ("nod", "smile")}, {"signs": ()}, {"signs": ("smile",)}, {}]
    assert corpus.tasks == (MultiLabel("signs", ("smile", "nod")),)
    assert [dict(clip.labels) for clip in corpus.clips] == expected
    lists = pa.array([["nod", "smile"], [], ["smile"], None])
    columns = {"id": list("abcd"), "split": ["train", "train", "test", "test"], "signs": lists}
    pq.write_table(pa.table(columns), tmp_path / "other.parquet")
    (tmp_path / "other.json").write_text(json.dumps({"tasks": tasks}), encoding="utf-8")
    assert load_table(tmp_path / "other.parquet").clips == corpus.clips
    path = write(*rows, "e,train,smile|frown", header="id,split,signs", tasks=tasks)
    with pytest.raises(UsageError, match="row 6, column signs: signs must be among smile, nod, not 'frown'"):
        load_table(path)


def test_parquet_says_the_same_as_csv(write: WriteTable, tmp_path: Path) -> None:
    """Typed columns, with the NaN and the floats that pandas leaves where values are missing."""
    same = load_table(write("1,train,a.mp4,0.5,,so,,d,2,1.5,calm", "2,test,,,,no,,,,,glad"))
    nan = float("nan")
    columns = {
        "id": [1, 2],
        "split": ["train", "test"],
        "media": ["a.mp4", None],
        "start_seconds": [0.5, nan],
        "transcript": ["so", "no"],
        "dialogue": ["d", None],
        "turn": [2.0, nan],
        "sentiment": pa.array([1.5, None], pa.float32()),
        "emotion": ["calm", "glad"],
    }
    pq.write_table(pa.table(columns), tmp_path / "other.parquet")
    (tmp_path / "other.yaml").write_text(json.dumps({"tasks": TASKS}), encoding="utf-8")
    assert load_table(tmp_path / "other.parquet").clips == same.clips


def test_all_problems_are_named_at_once_with_their_rows(write: WriteTable) -> None:
    path = write(
        "a,train,,,,fine,,,,0,calm",
        ",dev,,,,x,,,,0,calm",
        "a,train,,,,x,,,,5,sad",
        "c,train,m.mp4,2,1,x,,,first,nan,calm",
        "d,train,,1,,x,,,-1,,",
        "e,train,m.mp4,-1,soon,x,,,,,",
        "f,train,too,few",
    )
    with pytest.raises(UsageError, match="is not valid") as caught:
        load_table(path)
    assert str(caught.value).splitlines()[1:] == [
        "  row 3, column id: it must not be empty",
        "  row 3, column split: it must be one of train, valid, test, not 'dev'",
        "  row 4, column id: 'a' is already the id of row 2",
        "  row 4, column sentiment: sentiment must lie in [-3.0, 3.0], not '5'",
        "  row 4, column emotion: emotion must be one of calm, glad, not 'sad'",
        "  row 5, column end_seconds: the clip must end after it starts, not at 1.0 after 2.0",
        "  row 5, column sentiment: sentiment must lie in [-3.0, 3.0], not 'nan'",
        "  row 5, column turn: it must be a whole number from 0 on, not 'first'",
        "  row 6, column media: it must name the file that start_seconds and end_seconds lie in",
        "  row 6, column turn: it must be a whole number from 0 on, not '-1'",
        "  row 7, column start_seconds: it must be a number of seconds from 0 on, not '-1'",
        "  row 7, column end_seconds: it must be a number of seconds from 0 on, not 'soon'",
        "  row 8: it has more or fewer cells than the header: is a comma in a text not quoted?",
    ]
    content = read_table(path)
    assert [clip.id for clip in content.clips] == ["a"]
    assert {problem.clip for problem in content.problems} == {"", "a", "c", "d", "e"}


def test_very_many_problems_are_counted(write: WriteTable) -> None:
    with pytest.raises(UsageError, match=r"and 10 more$"):
        load_table(write(*(f"{i},dev,,,,x,,,,0,calm" for i in range(60))))


def test_wrong_columns_are_all_named(write: WriteTable) -> None:
    path = write("a", header="id,transcrpt,camera,camera,emotion", arrays={"eeg": "eeg_file"})
    with pytest.raises(UsageError, match="is not valid") as caught:
        load_table(path)
    for part in (
        "lacks the column 'split'",
        "lacks the column 'sentiment'",
        "lacks the column 'eeg_file'",
        "unknown column 'transcrpt': did you mean 'transcript'?",
        "unknown column 'camera': describe it as a task, or list it as an attribute",
        "has the column 'camera' twice",
    ):
        assert part in str(caught.value)


def test_listed_attributes_are_kept(write: WriteTable) -> None:
    path = write("a,train,x,0,calm,left", header="id,split,transcript,sentiment,emotion,camera", attributes=["camera"])
    assert load_table(path).clips[0].attributes == {"camera": "left"}


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"tasks": {}}, "tasks: Dictionary should have at least 1 item"),
        ({"attribute": ["x"]}, "attribute: unknown key; did you mean 'attributes'?"),
        ({"tasks": {"mood": {"kind": "ranking"}}}, "tasks.mood: .*'regression', 'classification'"),
        ({"tasks": {"mood": {"kind": "regression", "low": 1, "high": 1}}}, "low must lie below high, not 1.0 and 1.0"),
        ({"tasks": {"mood": {"kind": "regression", "low": 0}}}, "mood.regression.high: Field required"),
        ({"tasks": {"mood": {"kind": "classification", "classes": ["a", "a"]}}}, "classes must each be named once"),
        ({"tasks": {"split": TASKS["emotion"]}}, "the columns split are given two meanings"),
        ({"attributes": ["media"]}, "the columns media are given two meanings"),
        ({"default_tasks": ["mood"]}, "default_tasks must be among sentiment, emotion"),
        ({"arrays": {"eeg": "e"}, "features": {"eeg": "f"}}, "eeg is among both arrays and features"),
        ({"name": "my corpus"}, "name: String should match"),
    ],
)
def test_a_description_that_is_wrong_is_refused(write: WriteTable, described: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_table(write("a,train,,,,x,,,,0,calm", **described))


def test_all_problems_of_a_description_are_named(write: WriteTable) -> None:
    with pytest.raises(UsageError, match=r"(?s)name: String should match.*notes: unknown key"):
        load_table(write("a,train,,,,x,,,,0,calm", notes="x", name="a b"))


def test_there_must_be_one_description(write: WriteTable, tmp_path: Path) -> None:
    path = write("a,train,,,,x,,,,0,calm")
    path.with_suffix(".yaml").write_text("tasks: {}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"one description.* and there are mine\.yaml, mine\.json"):
        load_table(path)
    path.with_suffix(".yaml").unlink()
    path.with_suffix(".json").unlink()
    with pytest.raises(
        UsageError, match=r"one description.* and there is none\. The least one: tasks: \{sentiment"
    ) as caught:
        load_table(path)
    advice = str(caught.value).split("The least one: ")[1]
    path.with_suffix(".yaml").write_text(advice, encoding="utf-8")
    path.write_text("id,split,transcript,sentiment\na,train,so,-3\n", encoding="utf-8")
    assert load_table(path).clips[0].labels == {"sentiment": -3.0}
    path.with_suffix(".yaml").write_text("tasks: [", encoding="utf-8")
    with pytest.raises(UsageError, match=r"mine\.yaml is not YAML"):
        load_table(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty: its first row names the columns"),
        ("a.csv", b"id,split\xff\n", "is not a CSV table in UTF-8"),
        ("a.csv", b'id,split,x\n"a,train', "is not a CSV table in UTF-8"),
        ("a.csv", b"id,split,emotion,sentiment\n", "holds no clips"),
        ("a.parquet", b"id,split", "is not a Parquet table"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "a.yaml").write_text(json.dumps({"tasks": TASKS}), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_table(tmp_path / name)


class TestFinding:
    def test_a_table_a_folder_and_a_name(
        self, write: WriteTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = write("a,train,,,,x,,,,0,calm")
        clips = write("b,train,,,,x,,,,0,calm", stem="clips")
        assert find_table(mine) == mine
        assert find_table(tmp_path) == clips
        monkeypatch.setenv("MMSA_DATA", str(tmp_path.parent))
        assert find_table(tmp_path.name) == clips
        assert load_corpus(tmp_path.name).name == tmp_path.name
        assert load_corpus(str(mine)).clips[0].id == "a"

    def test_what_is_none_of_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MMSA_DATA", raising=False)
        assert find_table("nonesuch") is None
        with pytest.raises(UsageError, match=r"gone\.csv is no corpus: that is a \.csv or \.parquet table"):
            find_table("gone.csv")
        with pytest.raises(UsageError, match="is read with --corpus NAME --root"):
            load_corpus(str(tmp_path))
        with pytest.raises(UsageError, match=r"there is no corpus 'mled'\. Did you mean 'meld'"):
            load_corpus("mled")

    def test_two_tables_in_a_folder_are_refused(self, write: WriteTable, tmp_path: Path) -> None:
        write(stem="clips")
        (tmp_path / "clips.parquet").touch()
        with pytest.raises(UsageError, match=r"holds both clips\.csv and clips\.parquet: which one"):
            find_table(tmp_path)

    def test_a_table_takes_no_root(self, write: WriteTable, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a corpus by itself: leave --root"):
            load_corpus(str(write("a,train,,,,x,,,,0,calm")), tmp_path)


def test_training_on_a_table_with_arrays(write: WriteTable, tmp_path: Path, workspace: Path) -> None:
    """The array's level is the label; one clip has no array, and one has no words."""
    rows = []
    for i in range(24):
        split = ("train", "train", "valid", "test")[i // 6]
        level = (-1.0, 1.0)[i % 2]
        np.save(tmp_path / f"{i}.npy", np.full((1 + i % 3, 2), level))
        rows.append(f"{i},{split},{'' if i == 3 else 'some words'},{level},{'' if i == 5 else f'{i}.npy'}")
    tasks = {"mood": {"kind": "regression", "low": -1, "high": 1}}
    path = write(*rows, header="id,split,transcript,mood,eeg_file", tasks=tasks, arrays={"eeg": "eeg_file"})
    corpus = load_table(path)
    table = open_precomputed(corpus, "eeg")
    assert [len(table.sequence(i)) for i in range(6)] == [1, 2, 3, 1, 2, 0]
    assert table.missing == {"5": "no array"}
    settings = {"corpus": str(path), "epochs": 20, "learning_rate": 0.05, "head.hidden_dim": 4, "jobs": 1}
    run = train(make_config(None, {**settings, "device": "cpu"}))
    assert run.modalities == ("eeg", "text")
    assert run.test_metrics["mood.mae"] < 0.5  # the mean of the labels, 0, is off by 1
