import av
import librosa
import numpy as np
import pytest

from mmsa.demo import render
from mmsa.demo.face import FacePainter
from mmsa.demo.render import plan_clip, render_clip, render_video
from mmsa.demo.script import PROTOTYPES, Expression, write_script
from mmsa.demo.speakers import SPEAKERS


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "talking.mp4"
    return path, render_video(path, speaker="s02", emotion="joy", seconds=4.0, seed=3)


def test_the_container_is_h264_and_aac_of_equal_length(talking):
    path, rendering = talking
    with av.open(str(path)) as container:
        assert "mp4" in container.format.name
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height, video.average_rate, audio.sample_rate) == (320, 320, 25, 16000)
        lengths = [float(stream.duration * stream.time_base) for stream in (video, audio)]
    assert rendering.seconds == 4.0
    np.testing.assert_allclose(lengths, 4.0, atol=1 / 25)


def test_sound_survives_the_codec_in_place(talking, read):
    """The decoded sound lines up with the synthesised one to the sample, encoder delay included."""
    path, rendering = talking
    frames, samples = read(path)
    assert len(frames) == 100
    n = len(rendering.samples)
    spectrum = np.fft.rfft(samples[:n], 2 * n) * np.conj(np.fft.rfft(rendering.samples, 2 * n))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    assert lag in (0, 1, 2 * n - 1)
    assert np.corrcoef(samples[:n], rendering.samples)[0, 1] > 0.95


def envelope(samples, n_frames):
    """Root mean square per video frame, smoothed over three."""
    energy = np.sqrt(np.mean(samples[: n_frames * 640].reshape(n_frames, 640) ** 2, axis=1))
    return np.convolve(energy, np.ones(3) / 3, "same")


def test_lips_follow_the_voice(talking, read, tracker):
    frames, samples = read(talking[0])
    found = tracker(frames)
    assert all(found)
    jaw = np.convolve([face.jaw for face in found], np.ones(3) / 3, "same")
    loud = envelope(samples, len(frames))
    by_lag = {lag: np.corrcoef(np.roll(jaw, lag)[12:-12], loud[12:-12])[0, 1] for lag in range(-10, 11)}
    assert max(by_lag[lag] for lag in (-1, 0, 1)) > 0.6
    assert max(by_lag, key=by_lag.get) in (-2, -1, 0, 1, 2)


def test_the_drawn_smile_is_measured_in_the_video(tmp_path, read, tracker):
    measured, drawn = [], []
    for face in (-3.0, -1.0, 1.0, 3.0):
        path = tmp_path / f"{face}.mp4"
        rendering = render_video(path, speaker="s12", emotion=Expression(face=face), seconds=1.2)
        measured.append(np.mean([found.smile for found in tracker(read(path)[0][::3])]))
        drawn.append(np.mean([state.smile for state in rendering.states]))
    assert np.all(np.diff(measured) > 0.02)
    assert np.corrcoef(measured, drawn)[0, 1] > 0.95


def test_every_speaker_is_found_in_every_frame(tmp_path, read, tracker):
    emotions = list(PROTOTYPES)
    lost = total = 0
    for number, speaker in enumerate(SPEAKERS):
        path = tmp_path / f"{speaker.id}.mp4"
        render_video(path, speaker=speaker, emotion=emotions[number % 7], seconds=0.8, seed=number)
        found = tracker(read(path)[0][::2])
        lost, total = lost + found.count(None), total + len(found)
    assert total == 200
    assert lost <= 0.01 * total


def test_same_seed_same_frames_and_samples_and_another_seed_others(tmp_path, read):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        render_video(tmp_path / f"{name}.mp4", emotion="fear", seconds=1.0, seed=seed)
    (frames_a, sound_a), (frames_b, sound_b), (frames_c, sound_c) = (read(tmp_path / f"{k}.mp4") for k in "abc")
    np.testing.assert_array_equal(frames_a, frames_b)
    np.testing.assert_array_equal(sound_a, sound_b)
    assert not np.array_equal(frames_a, frames_c)
    assert not np.array_equal(sound_a, sound_c)


def test_a_clip_does_not_depend_on_what_was_rendered_before(tmp_path, read):
    first, second = write_script(0, 1)[:2]
    render_clip(tmp_path / "alone.mp4", second, 0)
    render_clip(tmp_path / "first.mp4", first, 0)
    render_clip(tmp_path / "after.mp4", second, 0)
    alone, after = read(tmp_path / "alone.mp4"), read(tmp_path / "after.mp4")
    np.testing.assert_array_equal(alone[0], after[0])
    np.testing.assert_array_equal(alone[1], after[1])


def test_clips_last_two_to_four_seconds_and_end_after_the_last_sound():
    for clip in write_script(0, 2):
        rendering = plan_clip(clip, 0)
        assert 2.0 <= rendering.seconds <= 4.0
        assert rendering.phones[-1].end_seconds < rendering.seconds
        assert len(rendering.samples) == round(rendering.seconds * 16000)


def test_without_sound(tmp_path, read):
    render_video(tmp_path / "mute.mp4", seconds=0.4, with_audio=False)
    frames, samples = read(tmp_path / "mute.mp4")
    assert len(frames) == 10
    assert samples is None


def test_without_a_face_the_voice_stays(tmp_path, read, tracker):
    render_video(tmp_path / "wall.mp4", seconds=2.0, with_face=False)
    frames, samples = read(tmp_path / "wall.mp4")
    assert tracker(frames[::10]) == [None] * 5
    assert np.abs(samples).max() > 0.05


def test_an_empty_transcript_is_silence_with_closed_lips(tmp_path, read):
    rendering = render_video(tmp_path / "silent.mp4", transcript="", seconds=0.6)
    assert rendering.phones == ()
    assert max(state.jaw for state in rendering.states) == 0
    assert 20 * np.log10(np.sqrt(np.mean(read(tmp_path / "silent.mp4")[1] ** 2)) + 1e-12) < -60


def test_a_transcript_is_said_once(tmp_path):
    rendering = render_video(tmp_path / "once.mp4", transcript="The soup was good.", seconds=2.5)
    assert rendering.transcript == "The soup was good."
    assert "".join(p.name for p in rendering.phones) == "DHAHSUWPWAAZGUWD".replace("SUWP", "SAAUHP")


def test_a_long_video_keeps_talking(tmp_path):
    rendering = render_video(tmp_path / "long.mp4", seconds=9.0, with_face=False)
    assert rendering.transcript.count(".") >= 2
    assert 6.0 < rendering.phones[-1].end_seconds < 9.0
    energy = librosa.feature.rms(y=rendering.samples[16000 * 5 :])[0]
    assert energy.max() > 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker": "bob"}, "no speaker 'bob'"),
        ({"emotion": "glee"}, "emotion must be one of neutral.* or an Expression, not 'glee'"),
        ({"seconds": 0.01}, "seconds must be at least one frame, 0.04, not 0.01"),
        ({"transcript": "one two three four", "seconds": 0.5}, "the transcript takes .* s, the video 0.5 s: give"),
    ],
)
def test_refuses_what_it_cannot_render(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        render_video(tmp_path / "no.mp4", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_advice_for_a_long_transcript_works(tmp_path):
    with pytest.raises(ValueError, match="give seconds=") as error:
        render_video(tmp_path / "no.mp4", transcript="one two three", seconds=0.5, with_face=False)
    advised = float(str(error.value).split("give seconds=")[1].split(" ")[0])
    render_video(tmp_path / "yes.mp4", transcript="one two three", seconds=advised, with_face=False)


def test_an_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    shown = []

    class Falling(FacePainter):
        def paint(self, state):
            shown.append(state)
            if len(shown) == 12:
                raise KeyboardInterrupt("pulled the plug")
            return super().paint(state)

    monkeypatch.setattr(render, "_painter", Falling)
    with pytest.raises(KeyboardInterrupt, match="pulled the plug"):
        render_video(tmp_path / "half.mp4", seconds=1.0)
    assert len(shown) == 12
    assert list(tmp_path.iterdir()) == []
