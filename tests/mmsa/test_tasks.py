from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsa.tasks import Classification, MultiLabel, Regression, Task, task_from_dict

SENTIMENT = Regression("sentiment", -3, 3, "mosi")
EMOTION = Classification("emotion", ("calm", "glad", "cross"))
MOODS = MultiLabel("moods", ("calm", "glad", "cross"))


@pytest.mark.parametrize("label", [-3, 3, 0, "1.5"])
def test_regression_keeps_labels_within_its_range(label: float | str) -> None:
    assert SENTIMENT.encode(label) == float(label)


@pytest.mark.parametrize("label", [-3.01, 3.01, float("nan"), float("inf")])
def test_regression_refuses_what_lies_outside(label: float) -> None:
    with pytest.raises(ValueError, match=r"sentiment must lie in \[-3, 3\], not "):
        SENTIMENT.encode(label)


def test_classification_encodes_in_the_order_of_the_outputs() -> None:
    assert [EMOTION.encode(name) for name in ("calm", "glad", "cross")] == [0.0, 1.0, 2.0]
    assert EMOTION.output_dim == 3


def test_classification_refuses_an_unknown_class() -> None:
    with pytest.raises(ValueError, match="emotion must be one of calm, glad, cross, not 'Glad'"):
        EMOTION.encode("Glad")


@pytest.mark.parametrize("task", [SENTIMENT, EMOTION])
def test_a_tuple_is_a_label_of_several_classes_alone(task: Task) -> None:
    with pytest.raises(ValueError, match=rf"{task.name} must be one .*, not \('calm',\)"):
        task.encode(("calm",))


@pytest.mark.parametrize(
    ("label", "target"),
    [((), (0, 0, 0)), (("glad",), (0, 1, 0)), (("cross", "calm"), (1, 0, 1)), (MOODS.classes, (1, 1, 1))],
)
def test_several_classes_may_hold_or_none(label: tuple[str, ...], target: tuple[float, ...]) -> None:
    assert MOODS.encode(label) == target
    assert MOODS.output_dim == 3


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("glad", "moods must be a tuple of the classes that hold, empty where none does: 'glad'"),
        (1.0, "moods must be a tuple"),
        (("glad", "Calm"), "moods must be among calm, glad, cross, not 'Calm'"),
        (("glad", "glad"), "moods must name each class once"),
    ],
)
def test_what_is_no_set_of_classes_is_refused(label: float | str | tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MOODS.encode(label)


names = st.text(min_size=1, max_size=8)
tasks = st.one_of(
    st.builds(
        Regression,
        names,
        st.floats(-10, 0),
        st.floats(0.5, 10),
        st.sampled_from(["mosi", "sims", "simsv2", "plain"]),
    ),
    *(
        st.builds(kind, names, st.lists(names, min_size=2, max_size=5, unique=True).map(tuple))
        for kind in (Classification, MultiLabel)
    ),
)


@given(task=tasks)
def test_tasks_survive_json(task: Task) -> None:
    assert task_from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'regression', 'classification' or 'multi-label', not 'ranking'"):
        task_from_dict({"kind": "ranking"})


def write_signs(folder: Path, clips: int = 60) -> Path:
    """A table of clips with two numbers each: the first is positive in happy ones, the second in sad ones."""
    random = np.random.default_rng(0)
    rows = ["id,split,signs,moods"]
    for i in range(clips):
        values = random.uniform(0.8, 1, 2) * random.choice([-1, 1], 2)
        np.save(folder / f"{i}.npy", values[None].astype(np.float32))
        held = "|".join(name for name, value in zip(("happy", "sad"), values, strict=True) if value > 0)
        label = "" if i % 10 == 3 else held or "-"
        rows.append(f"clip{i},{('train', 'train', 'valid', 'test')[i % 4]},{i}.npy,{label}")
    (folder / "signs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    description = {"tasks": {"moods": {"kind": "multi-label", "classes": ["happy", "sad"]}}, "arrays": {"eeg": "signs"}}
    (folder / "signs.json").write_text(json.dumps(description), encoding="utf-8")
    return folder / "signs.csv"


def test_several_classes_go_all_the_way_from_a_table_to_a_bundle(tmp_path: Path, workspace: Path) -> None:
    from mmsa.bundle import load_bundle
    from mmsa.config import make_config
    from mmsa.runs import train

    settings = {"fusion": "early", "head.hidden_dim": 8, "epochs": 40, "learning_rate": 0.05, "device": "cpu"}
    options = {"loss.class_weights": "balanced", "loss.classification": "focal", "select": "moods.wa"}
    run = train(make_config(options={"corpus": str(write_signs(tmp_path)), **settings, **options}))
    assert run.test_metrics["moods.wa"] == run.test_metrics["moods.f1_sad"] == 1.0
    assert load_bundle(run.bundle).tasks == (MultiLabel("moods", ("happy", "sad")),)
    with (run.bundle.parent / "predictions_test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == [f"clip{i}" for i in range(3, 60, 4)]
    for row in rows:
        label = json.loads(row["moods.label"])
        if row["clip"].endswith("3"):
            assert label != label
        else:
            assert label == [float(row["moods.happy"]) > 0, float(row["moods.sad"]) > 0]
    assert (run.bundle.parent / "per_class_test.csv").is_file()
    assert (run.bundle.parent / "pictures" / "moods.png").is_file()
