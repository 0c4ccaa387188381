"""The overlapped stream gives what the plain one gives, with few frames waiting, and hides no error."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from extractors.base import AudioStream, VisionStream
from extractors.overlap import _WAITING, OverlappedSound, OverlappedStream, heard_apart, watched_apart
from extractors.sequence import FeatureSequence


class Counter(VisionStream):
    """Notes what it is given; waits for `gate` first; breaks at the frame `bad`."""

    def __init__(self, bad: int | None = None) -> None:
        self.seen: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.bad, self.closed = bad, 0
        self.segment: tuple[float, float] | None = None

    def push(self, image: np.ndarray, indices: Sequence[int]) -> None:
        self.gate.wait()
        if indices[0] == self.bad:
            raise ValueError("frame is bad")
        self.threads.add(threading.get_ident())
        self.seen += indices

    def finish(self) -> FeatureSequence:
        times = np.array([[k, k + 1] for k in self.seen], np.float64)
        return FeatureSequence(np.array(self.seen, np.float32)[:, None], times, ("k",))

    def expect_windows(self) -> None:
        self.seen.append(-1)

    def expect_segment(self, start_seconds: float, end_seconds: float) -> None:
        self.segment = (start_seconds, end_seconds)

    def missing_reason(self) -> str:
        return "because"

    def close(self) -> None:
        self.closed += 1


IMAGE = np.zeros((4, 4, 3), np.uint8)


def push_many(stream: OverlappedStream, count: int) -> None:
    for k in range(count):
        stream.push(IMAGE, [k])


def test_all_frames_in_order_on_another_thread() -> None:
    inner = Counter()
    inner.gate.set()
    stream = OverlappedStream(inner)
    for k in range(100):
        stream.push(IMAGE, [2 * k, 2 * k + 1])
    assert stream.finish().values[:, 0].tolist() == list(range(200))
    assert len(inner.threads) == 1
    assert threading.get_ident() not in inner.threads
    assert stream.missing_reason() == "because"
    stream.close()
    assert inner.closed == 1


def test_no_more_than_a_few_frames_wait() -> None:
    inner = Counter()
    stream = OverlappedStream(inner)
    pushed: list[int] = []

    def feed() -> None:
        for k in range(20):
            stream.push(IMAGE, [k])
            pushed.append(k)

    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join(timeout=0.3)
    assert feeder.is_alive()
    assert len(pushed) <= _WAITING + 1
    inner.gate.set()
    feeder.join()
    assert len(stream.finish()) == 20


def test_errors_arrive_where_the_caller_is() -> None:
    inner = Counter(bad=3)
    inner.gate.set()
    stream = OverlappedStream(inner)
    with pytest.raises(ValueError, match="frame is bad"):
        push_many(stream, 1000)
    with pytest.raises(ValueError, match="frame is bad"):
        stream.finish()
    assert inner.seen == [0, 1, 2]
    stream.close()
    assert inner.closed == 1
    assert not any(t.name.startswith("extractors-") for t in threading.enumerate())


def test_that_windows_will_come_is_passed_on_before_any_frame() -> None:
    inner = Counter()
    inner.gate.set()
    stream = OverlappedStream(inner)
    stream.expect_windows()
    push_many(stream, 2)
    stream.finish()
    assert inner.seen == [-1, 0, 1]


def test_which_segment_counts_is_passed_on() -> None:
    inner = Counter()
    inner.gate.set()
    stream = OverlappedStream(inner)
    stream.expect_segment(1.0, 2.5)
    stream.close()
    assert inner.segment == (1.0, 2.5)


class Ears(Counter):
    """Notes frames as their number, sound as minus the index of its first sample, its end as -1000."""

    def listen(self, samples: np.ndarray, first_sample: int) -> None:
        self.threads.add(threading.get_ident())
        self.seen.append(-first_sample)

    def no_more_sound(self) -> None:
        self.seen.append(-1000)

    def notes(self, start_seconds: float = 0.0, end_seconds: float = 1.0) -> tuple[str, ...]:
        return (f"{start_seconds} to {end_seconds}",)


def test_sound_and_frames_stay_in_their_order() -> None:
    inner = Ears()
    inner.gate.set()
    stream = OverlappedStream(inner)
    for k in range(1, 30):
        stream.push(IMAGE, [k])
        stream.listen(np.zeros(10, np.float32), 10 * k)
    stream.no_more_sound()
    stream.close()
    assert inner.seen == [*(value for k in range(1, 30) for value in (k, -10 * k)), -1000]
    assert len(inner.threads) == 1
    assert stream.notes(2.0, 3.0) == ("2.0 to 3.0",)


class Sounds(AudioStream):
    """Notes the first sample of each block; breaks at the block that begins with 3."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.threads: set[int] = set()

    def push(self, samples: np.ndarray) -> None:
        if samples[0] == 3:
            raise ValueError("block is bad")
        self.threads.add(threading.get_ident())
        self.seen.append(float(samples[0]))

    def finish(self) -> FeatureSequence:
        times = np.array([[k, k + 1] for k in range(len(self.seen))], np.float64)
        return FeatureSequence(np.array(self.seen, np.float32)[:, None], times, ("first",))

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        return self.finish().between(start_seconds, end_seconds), ""


def test_sound_is_heard_in_order_on_another_thread() -> None:
    inner = Sounds()
    stream = OverlappedSound(inner)
    for k in range(4, 40):
        stream.push(np.full(5, k, np.float32))
    found, _ = stream.window(0.0, 36.0)  # what waits is heard first
    assert found.values[:, 0].tolist() == list(range(4, 40))
    assert stream.finish().values[:, 0].tolist() == list(range(4, 40))
    assert len(inner.threads) == 1
    assert threading.get_ident() not in inner.threads


def test_a_broken_block_of_sound_is_told_and_the_thread_ends() -> None:
    stream = OverlappedSound(Sounds())

    def push_blocks() -> None:
        for _ in range(1000):
            stream.push(np.full(5, 3, np.float32))

    with pytest.raises(ValueError, match="block is bad"):
        push_blocks()
    stream.end()
    stream.end()
    assert not any(t.name.startswith("extractors-") for t in threading.enumerate())


@pytest.mark.parametrize(("cores", "apart"), [(1, False), (2, True)])
def test_with_one_core_all_is_done_where_it_is_asked_for(
    cores: int, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extractors.overlap.usable_cores", lambda: cores)
    counter, sounds = Counter(), Sounds()
    counter.gate.set()
    watching, listening = watched_apart(counter), heard_apart(sounds)
    for k in range(4, 24):
        watching.push(IMAGE, [k])
        listening.push(np.full(5, k, np.float32))
    assert watching.finish().values[:, 0].tolist() == listening.finish().values[:, 0].tolist() == list(range(4, 24))
    for threads in (counter.threads, sounds.threads):
        assert (threading.get_ident() not in threads) == apart
    watching.close()
    assert counter.closed == 1
