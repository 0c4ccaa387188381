from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from extractors import LiveCounts, LiveSource, Window
from mmsa.errors import UsageError
from mmsa.scoring import Scorer, TaskScore, WindowScore, load_scorer
from mmsa.scoring.live import LiveScore, LiveScoring, LiveSummary

if TYPE_CHECKING:
    from conftest import Trained

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def scorer(trained: Trained) -> Scorer:
    return load_scorer(trained.run.id, trust_extractors=True)


@pytest.fixture
def talk(tmp_path: Path, write_wav: Callable[[Path, Sequence[float]], Path]) -> Path:
    """Two seconds that get louder."""
    return write_wav(tmp_path / "talk.wav", [0.125] * 10 + [0.5] * 10)


def test_live_scores_are_those_of_the_recording(scorer: Scorer, talk: Path) -> None:
    """As the recording is scored window by window, to 1e-5: of this model's extractors none can roll."""
    scoring = LiveScoring(
        scorer, LiveSource.of(str(talk)), window_seconds=1.0, hop_seconds=0.5, max_latency_seconds=60.0
    )
    live = list(scoring)
    recorded = scorer.score(talk, text="", window_seconds=1.0, hop_seconds=0.5).windows
    assert len(live) == len(recorded) == 3
    for one, expected in zip(live, recorded, strict=True):
        window = one.window
        assert (window.number, window.start_seconds, window.end_seconds) == (
            expected.number,
            expected.start_seconds,
            expected.end_seconds,
        )
        assert window.scores["sentiment"].value == pytest.approx(expected.scores["sentiment"].value, abs=1e-5)
        shares = expected.scores["emotion"].probabilities
        assert window.scores["emotion"].probabilities == pytest.approx(shares, abs=1e-5)
        assert window.missing == expected.missing == {"text": "no transcript"}
        assert one.latency_seconds > 0  # sound is there when its last sample is
    assert scoring.counts == LiveCounts(windows=3)


def test_a_slow_model_drops_windows_and_says_so(
    scorer: Scorer, tmp_path: Path, write_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fourteen windows in three seconds, and a model that takes half a second for each."""
    real = scorer.score_window

    def slow(window: Window) -> WindowScore:
        time.sleep(0.5)
        return real(window)

    monkeypatch.setattr(scorer, "score_window", slow)
    path = write_wav(tmp_path / "long.wav", [0.25] * 30)
    scoring = LiveScoring(
        scorer, LiveSource.of(str(path)), window_seconds=0.4, hop_seconds=0.2, max_latency_seconds=0.4
    )
    found = list(scoring)
    assert 0 < len(found) < 14
    assert found[-1].window.end_seconds == pytest.approx(3.0, abs=0.05)
    last = found[-1].counts
    assert last.dropped_windows == found[-1].window.number + 1 - len(found) > 0
    assert scoring.end_row("done")["dropped"]["dropped_windows"] == last.dropped_windows
    assert scoring.end_row("done")["windows"] == len(found)


def test_without_a_length_windows_are_as_long_as_the_clips_of_the_training(scorer: Scorer, talk: Path) -> None:
    assert scorer.bundle.clip_seconds is not None
    scoring = LiveScoring(scorer, LiveSource.of(str(talk)))
    assert scoring.timeline.window_seconds == pytest.approx(scorer.bundle.clip_seconds[1], abs=0.051)
    assert scoring.timeline.hop_seconds == pytest.approx(scoring.timeline.window_seconds / 2)
    scoring.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_latency_seconds": 0.0}, "max_latency_seconds must be above 0, not 0"),
        ({"seconds": -1.0}, "seconds must be above 0, not -1"),
        ({"window_seconds": 0.0}, "window_seconds must be a number of seconds of at least"),
        ({"hop_seconds": float("nan")}, "hop_seconds must be a number of seconds of at least"),
    ],
)
def test_wrong_options_are_told(scorer: Scorer, talk: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        LiveScoring(scorer, LiveSource.of(str(talk)), **options)


def test_a_source_that_is_not_there_is_a_usage_error(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        LiveScoring(scorer, LiveSource.of(str(tmp_path / "gone.wav")))


def score(number: int, latency: float, value: float | None, label: str | None) -> LiveScore:
    scores = {}
    if value is not None:
        scores = {"sentiment": TaskScore(value=value), "emotion": TaskScore(label=label, probabilities={"low": 0.5})}
    return LiveScore(WindowScore(number, number * 1.0, number + 1.0, scores), latency, LiveCounts(windows=number + 1))


def test_the_summary_is_over_all_windows() -> None:
    summary = LiveSummary()
    assert (summary.mean_latency_seconds, summary.tasks) == (0.0, {})
    for one in (
        score(0, 0.5, -1.0, "low"),
        score(1, 1.5, 0.5, "high"),
        score(2, 0.25, None, None),
        score(3, 0.75, 0.5, "high"),
    ):
        summary.add(one)
    assert (summary.windows, summary.scored_windows) == (4, 3)
    assert summary.mean_latency_seconds == pytest.approx(0.75)
    assert summary.most_latency_seconds == 1.5
    assert summary.tasks == {"sentiment": {"mean": 0.0}, "emotion": {"shares": {"low": 0.3333333, "high": 0.6666667}}}


def test_of_several_classes_each_that_holds_counts() -> None:
    summary = LiveSummary()
    for labels in (("joy", "fear"), ("joy",), ()):
        task = TaskScore(labels=labels, probabilities={"joy": 0.5, "fear": 0.5})
        summary.add(LiveScore(WindowScore(0, 0.0, 1.0, {"felt": task}), 0.1, LiveCounts()))
    assert summary.tasks == {"felt": {"shares": {"joy": 0.6666667, "fear": 0.3333333}}}


def test_rows_are_json_and_the_page_names_their_fields(scorer: Scorer, talk: Path) -> None:
    scoring = LiveScoring(scorer, LiveSource.of(str(talk)), window_seconds=1.0, max_latency_seconds=60.0)
    rows = [scoring.begin_row(), *(one.to_dict() for one in scoring), scoring.end_row("it ended")]
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    assert [row["event"] for row in rows] == ["begin", "window", "window", "window", "end"]
    for row in rows:
        assert row["schema"] == "mmsa.live/1"
        assert json.loads(json.dumps(row)) == row
        assert [key for key in (*row, *row.get("dropped", {})) if f"`{key}`" not in page] == []
    assert not {"smoothed", "text", "speaker"} & set(rows[1])
