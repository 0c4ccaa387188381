from __future__ import annotations

import threading

import pytest

from extractors.live_buffer import HELD_FRAMES, HELD_SECONDS, LiveBuffer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def buffer(clock: Clock) -> LiveBuffer:
    return LiveBuffer(2.0, clock)


def taken(buffer: LiveBuffer, run: int = 0) -> list[tuple[str, float]]:
    """All that is left of a run, of an ended buffer."""
    found = []
    while (one := buffer.take(run)) is not None:
        found.append((one.kind, one.seconds))
    return found


def put(buffer: LiveBuffer, kind: str, *seconds: float) -> None:
    for one in seconds:
        buffer.put(kind, object(), one, one)  # type: ignore[arg-type]


def test_what_keeps_up_loses_nothing(buffer: LiveBuffer) -> None:
    for k in range(100):
        put(buffer, "video", k / 10)
        put(buffer, "audio", k / 10)
        for _ in range(2):
            one = buffer.take(0)
            assert one is not None
            assert (one.seconds, one.stamp) == (k / 10, k / 10)
    buffer.end()
    assert (taken(buffer), buffer.dropped_frames, buffer.skipped_seconds, buffer.over) == ([], 0, 0.0, True)


def test_old_pictures_make_room_and_sound_stays(buffer: LiveBuffer) -> None:
    """Nobody takes anything for 3 s: of the pictures the last second is left, of the sound everything."""
    for k in range(31):
        put(buffer, "video", k / 10)
        put(buffer, "audio", k / 10)
    buffer.end()
    found = taken(buffer)
    assert [seconds for kind, seconds in found if kind == "audio"] == [k / 10 for k in range(31)]
    assert [seconds for kind, seconds in found if kind == "video"] == [k / 10 for k in range(20, 31)]
    assert buffer.dropped_frames == 20
    assert buffer.skipped_seconds == 0


def test_a_reader_that_catches_up_after_a_pause_is_left_alone(buffer: LiveBuffer, clock: Clock) -> None:
    """Three seconds of sound have gathered while it computed; it takes them in no time."""
    put(buffer, "audio", *(k / 10 for k in range(31)))
    clock.now = 100.0
    buffer.end()
    assert len(taken(buffer)) == 31
    assert buffer.skipped_seconds == 0


def test_a_reader_that_stays_behind_is_brought_up_to_now(buffer: LiveBuffer, clock: Clock) -> None:
    """It takes a tenth of a second of sound in half a second: four tenths more are waiting after each."""
    newest, reached, run = 0.0, [], 0
    put(buffer, "audio", 0.0)
    for _ in range(20):
        one = buffer.take(run)
        if one is None:
            first = buffer.peek()
            assert first is not None
            run = first.run
            break
        reached.append(one.seconds)
        clock.now += 0.5
        for _ in range(5):
            newest = round(newest + 0.1, 1)
            put(buffer, "audio", newest)
    assert run == 1
    assert first.seconds == pytest.approx(newest - 1.0)  # half of the latency allowed
    assert buffer.skipped_seconds == pytest.approx(first.seconds - (reached[-1] + 0.1))
    # Behind by more than 2 s from the sixth frame on, and for more than a second after it: no later than the tenth.
    assert len(reached) <= 10


def test_no_more_than_so_much_is_ever_held(buffer: LiveBuffer) -> None:
    put(buffer, "audio", *(k / 10 for k in range(10_000)))
    assert buffer.backlog_seconds <= HELD_SECONDS
    assert buffer.skipped_seconds >= 1000 - HELD_SECONDS - 1
    put(buffer, "audio", *[999.9] * 3 * HELD_FRAMES)  # timestamps that stand still
    first = buffer.peek()
    assert first is not None
    buffer.end()
    assert len(taken(buffer, first.run)) <= HELD_FRAMES


def test_runs_are_taken_one_by_one(buffer: LiveBuffer) -> None:
    put(buffer, "audio", 0.0, 0.1)
    assert buffer.begin_run() == 1
    put(buffer, "audio", 5.0)
    buffer.end()
    assert taken(buffer, 0) == [("audio", 0.0), ("audio", 0.1)]
    assert buffer.take(0) is None
    assert not buffer.over
    assert taken(buffer, 1) == [("audio", 5.0)]
    assert buffer.peek() is None


def test_an_error_comes_after_the_last_frame(buffer: LiveBuffer) -> None:
    put(buffer, "audio", 0.0)
    buffer.end(ValueError("it broke"))
    buffer.end()
    assert buffer.peek() is not None
    assert taken(buffer) == [("audio", 0.0)]
    with pytest.raises(ValueError, match="it broke"):
        buffer.peek()


def test_a_waiting_reader_is_woken(buffer: LiveBuffer) -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(buffer.take(0)))
    thread.start()
    put(buffer, "video", 0.5)
    thread.join(10)
    assert [one.seconds for one in found] == [0.5]  # type: ignore[attr-defined]
    thread = threading.Thread(target=lambda: found.append(buffer.take(0)))
    thread.start()
    buffer.clear()
    thread.join(10)
    assert found[1] is None


def test_what_comes_after_closing_is_not_kept(buffer: LiveBuffer) -> None:
    """A thread that reads may hold one more frame when the reader leaves."""
    put(buffer, "audio", 0.0)
    buffer.clear()
    put(buffer, "audio", 0.1)
    assert buffer.peek() is None
    assert buffer.over
