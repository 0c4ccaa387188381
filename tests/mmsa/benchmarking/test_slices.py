from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mmsa.benchmarking.facts import ClipFacts
from mmsa.benchmarking.pooled import Pooled
from mmsa.benchmarking.slices import SliceTable, cut
from mmsa.tasks import Classification, MultiLabel, Regression

MakePooled = Callable[..., Pooled]
TASK = Regression("sentiment", -3, 3, "mosi")
LABELS = np.array([-1, 0, 2, np.nan, 1, -3])
ERRORS = np.array([1.0, 2.0, 3.0, 9.0, 5.0, 6.0])


def one(kind: str, rows: dict[str, Pooled], metrics: tuple[str, ...] = ("sentiment.mae",)) -> SliceTable:
    (table,) = cut(kind, metrics, rows)
    return table


def cells(table: SliceTable, row: str = "late") -> dict[str, float]:
    return {label: cell.mean for (label, _), cell in zip(table.groups, table.rows[row], strict=True)}


def missed_by(make_pooled: MakePooled, errors: np.ndarray, **own: object) -> Pooled:
    labels = np.nan_to_num(LABELS)
    return make_pooled(TASK, LABELS, [(labels + errors)[:, None], (labels - 3 * errors)[:, None]], **own)


def test_by_sign_of_the_label(make_pooled: MakePooled) -> None:
    """Means of the errors by hand, averaged over two seeds that miss once and thrice as much."""
    table = one("class", {"late": missed_by(make_pooled, ERRORS)})
    assert table.groups == (("negative", 2), ("zero", 1), ("positive", 2))
    assert cells(table) == pytest.approx({"negative": 2 * 3.5, "zero": 2 * 2.0, "positive": 2 * 4.0})
    assert table.rows["late"][0].std == pytest.approx(np.std([3.5, 10.5], ddof=1))


def test_by_speaker_the_rare_ones_together(make_pooled: MakePooled) -> None:
    speakers = ["anna"] * 11 + ["bo"] * 10 + ["cy"] * 3 + ["di"] * 2 + [None] * 4
    labels = np.zeros(30)
    errors = np.arange(30.0)
    facts = [ClipFacts(speaker=name) for name in speakers]
    table = one("speaker", {"late": make_pooled(TASK, labels, [errors[:, None]], facts=facts)})
    assert table.groups == (("anna", 11), ("bo", 10), ("all others", 5))
    assert cells(table) == pytest.approx({"anna": 5.0, "bo": 15.5, "all others": 23.0})
    assert table.note == "all others are 2 speakers."
    assert np.isnan(table.rows["late"][0].std)  # one seed has no spread


def test_by_length_in_thirds(make_pooled: MakePooled) -> None:
    facts = [ClipFacts(words=n) for n in (1, 2, 3, 4, 8, 9)]
    pooled = make_pooled(TASK, np.zeros(6), [np.arange(6.0)[:, None]], facts=facts)
    table = one("length", {"late": pooled})
    assert table.groups == (("1 to 2 words", 2), ("3 to 4 words", 2), ("8 to 9 words", 2))
    assert list(cells(table).values()) == pytest.approx([0.5, 2.5, 4.5])
    timed = make_pooled(TASK, np.zeros(2), [np.zeros((2, 1))], facts=[ClipFacts(seconds=2.0), ClipFacts(seconds=2.0)])
    assert one("length", {"late": timed}).groups == (("2 seconds", 2),)


def test_by_congruence(make_pooled: MakePooled) -> None:
    facts = [ClipFacts(congruent=value) for value in (True, False, None, True, False, True)]
    table = one("congruent", {"late": make_pooled(TASK, np.zeros(6), [np.arange(6.0)[:, None]], facts=facts)})
    assert cells(table) == pytest.approx({"congruent": 8 / 3, "incongruent": 2.5})


def test_by_what_the_corpus_says_of_its_clips(make_pooled: MakePooled) -> None:
    """IEMOCAP's improvised and scripted turns apart; a clip without a word of it is apart from both."""
    said = [{"setting": "improvised"}] * 3 + [{"setting": "scripted"}] * 2 + [{}]
    pooled = make_pooled(
        TASK, np.zeros(6), [np.arange(6.0)[:, None]], facts=[ClipFacts(attributes=one) for one in said]
    )
    table = one("attribute.setting", {"late": pooled})
    assert table.groups == (("improvised", 3), ("scripted", 2), ("not said", 1))
    assert cells(table) == pytest.approx({"improvised": 1.0, "scripted": 3.5, "not said": 5.0})
    unknown = one("attribute.mood", {"late": pooled})
    assert (unknown.rows, unknown.groups) == ({}, ())
    assert "no attribute mood" in unknown.note
    assert "it has setting" in unknown.note


@pytest.mark.parametrize(
    ("kind", "told"), [("speaker", "does not say who"), ("length", "Neither"), ("congruent", "no labels of single")]
)
def test_what_the_corpus_does_not_say_is_said(make_pooled: MakePooled, kind: str, told: str) -> None:
    table = one(kind, {"late": missed_by(make_pooled, ERRORS)})
    assert table.rows == {}
    assert told in table.note


def test_with_modalities_missing(make_pooled: MakePooled) -> None:
    labels = np.zeros(4)
    subsets = [{"audio": {"sentiment": np.full((4, 1), 3.0)}, "text": {"sentiment": np.full((4, 1), 2.0)}}]
    both = make_pooled(TASK, labels, [np.ones((4, 1))], subsets=subsets)
    text = make_pooled(TASK, labels, [np.full((4, 1), 1.5)])
    table = one("missing", {"late": both, "text alone": text})
    assert table.groups == (("only audio", 4), ("only text", 4), ("all", 4))
    assert cells(table) == {"only audio": 3.0, "only text": 2.0, "all": 1.0}
    alone = cells(table, "text alone")
    assert alone["all"] == 1.5
    assert np.isnan(alone["only audio"])
    assert "one modality" in one("missing", {"text alone": text}).note


def test_classes_by_their_f1(make_pooled: MakePooled) -> None:
    """Joy: 1 hit, 2 true, 2 said; none: 2 hits, 3 true, 3 said; nobody is angry."""
    task = Classification("emotion", ("joy", "anger", "none"))
    truth = np.array([0, 0, 2, 2, 2, np.nan])
    guess = np.eye(3)[[0, 2, 2, 2, 0, 1]]
    table = one("class", {"late": make_pooled(task, truth, [guess])}, ("emotion.weighted_f1",))
    assert table.groups == (("joy", 2), ("none", 3))
    assert cells(table) == pytest.approx({"joy": 2 * 1 / (2 + 2), "none": 2 * 2 / (3 + 3)})


def test_classes_that_may_hold_together(make_pooled: MakePooled) -> None:
    task = MultiLabel("signs", ("smile", "frown"))
    truth = np.array([[1, 0], [1, 1], [0, 0]])
    logits = np.array([[1.0, -1], [-1, 1], [-1, 1]])
    table = one("class", {"late": make_pooled(task, truth, [logits])}, ("signs.wa",))
    assert table.groups == (("smile", 2), ("frown", 1))
    assert cells(table) == pytest.approx({"smile": 2 / 3, "frown": 2 / 3})


def test_a_row_on_other_clips_is_left_out(make_pooled: MakePooled) -> None:
    first = make_pooled(TASK, np.array([1.0, -1.0]), [np.zeros((2, 1))], clips=["a", "b"])
    turned = make_pooled(TASK, np.array([-1.0, 1.0]), [np.array([[0.0], [4.0]])], clips=["b", "a"])
    other = make_pooled(TASK, np.array([1.0, -1.0]), [np.zeros((2, 1))], clips=["a", "c"])
    table = one("class", {"first": first, "turned": turned, "other": other})
    assert set(table.rows) == {"first", "turned"}
    assert [cell.mean for cell in table.rows["turned"]][::2] == [1.0, 3.0]  # b, then a


def test_one_table_per_task_by_its_first_metric(make_pooled: MakePooled) -> None:
    rows = {"late": missed_by(make_pooled, ERRORS)}
    tables = list(cut("class", ("sentiment.corr", "emotion.accuracy", "sentiment.mae"), rows))
    assert [table.metric for table in tables] == ["sentiment.corr"]  # no row has the task emotion
