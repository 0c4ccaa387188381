from __future__ import annotations

import json
from collections.abc import Callable

from mmsa.scoring.lines import Line
from mmsa.scoring.report.page_data import page_data
from mmsa.scoring.results import Score, TaskScore, WindowScore

MakeScore = Callable[..., Score]


def test_columns_hold_what_the_rows_do(make_score: MakeScore) -> None:
    """Field by field against the windows, rounded by hand."""
    score = make_score("talk.mp4", 20)
    data = json.loads(json.dumps(page_data(score, [Line(1.0, 2.5, "hi", "Ann"), Line(3.0, 4.0, "no")])))
    assert (data["start"], data["end"]) == (0, 42)
    sentiment, emotion = data["tasks"]
    assert (sentiment["kind"], emotion["kind"]) == ("value", "class")
    keys = [one["name"] for one in data["modalities"]]
    assert keys == ["audio", "text", "vision"]
    for i, window in enumerate(score.windows):
        assert [data["windows"][k][i] for k in ("number", "start", "end")] == [i, 2 * i, 2 * i + 4]
        for key, one in zip(keys, data["modalities"], strict=True):
            given = window.modalities[key]
            assert one["present"][i] == int(given.present)
            assert (None if one["reason"][i] is None else data["reasons"][one["reason"][i]]) == given.reason
            assert one["moved"]["sentiment"][i] == given.contribution.get("sentiment")
            assert one["moved"]["emotion"][i] == given.contribution.get("emotion")
            assert one["weight"][i] == given.weight
            assert one["steps"][i] == given.steps
            assert one["alone"]["sentiment"][i] == (0.25 if given.scores else None)
            assert one["alone"]["emotion"][i] == ([["joy", 0.5]] if given.scores else None)
        if not window.scores:
            assert sentiment["raw"][i] is sentiment["low"][i] is sentiment["smoothed"][i] is None
            assert [column[i] for column in emotion["raw"]] == [None] * 3
            continue
        value = window.scores["sentiment"]
        assert value.interval is not None
        assert sentiment["raw"][i] == round(value.value, 4)  # type: ignore[arg-type]
        assert (sentiment["low"][i], sentiment["high"][i]) == tuple(round(end, 4) for end in value.interval)
        assert sentiment["smoothed"][i] == round(window.smoothed["sentiment"].value, 4)  # type: ignore[arg-type]
        for name, raw, smoothed in zip(emotion["classes"], emotion["raw"], emotion["smoothed"], strict=True):
            assert raw[i] == round(window.scores["emotion"].probabilities[name], 4)
            assert smoothed[i] == round(window.smoothed["emotion"].probabilities[name], 4)
    assert data["lines"] == [[1, 2.5, 0, "hi"], [3, 4, None, "no"]]
    assert data["speakers"] == ["Ann"]


def test_several_labels_and_segments() -> None:
    several = TaskScore(labels=("a", "b"), probabilities={"a": 0.75, "b": 0.625, "c": 0.1})
    window = WindowScore(0, 30.0, 36.0, {"mood": several}, {"mood": several}, speaker="Bo")
    data = page_data(Score("a.wav", start_seconds=30.0, duration_seconds=6.0, windows=(window,)), [])
    assert (data["start"], data["end"]) == (30, 36)
    assert data["tasks"][0]["kind"] == "labels"
    assert data["tasks"][0]["raw"] == [[0.75], [0.625], [0.1]]
    assert data["speakers"] == ["Bo"]
    assert data["windows"]["speaker"] == [0]


def test_two_hours_are_compact(make_score: MakeScore) -> None:
    score = make_score("long.mp4", 2880, 5.0, 2.5)
    text = json.dumps(page_data(score, []), separators=(",", ":"))
    assert len(text) < 700 * 2880
    assert len(text) < len(json.dumps(score.to_dict())) / 3
