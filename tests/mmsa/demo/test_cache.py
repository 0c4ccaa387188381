import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import av
import pytest

from mmsa.demo import cache
from mmsa.demo.script import write_script

CLIPS = write_script(0, 3)[:6]
"""Two speakers, three clips each."""


def render(folder, clips=CLIPS, workers=2, **options):
    return cache.render_missing(folder, clips, seed=0, clips_per_speaker=3, workers=workers, **options)


def videos(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.mp4")}


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """What one process renders in order."""
    folder = tmp_path_factory.mktemp("inline")
    count, rendering = render(folder, workers=1)
    assert (count, list(rendering)) == (6, [clip.id for clip in CLIPS])
    return folder


def test_processes_render_what_one_process_renders(inline, tmp_path):
    count, rendering = render(tmp_path)
    assert (count, sorted(rendering)) == (6, [clip.id for clip in CLIPS])
    assert videos(tmp_path) == videos(inline)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest-6.json", *sorted(videos(inline))]


def test_the_manifest_lists_sizes(inline):
    sizes = json.loads((inline / "manifest-6.json").read_text())
    assert sizes == {name.removesuffix(".mp4"): len(data) for name, data in videos(inline).items()}


def test_what_is_there_is_not_rendered_again(inline):
    before = {path: path.stat().st_mtime_ns for path in inline.iterdir()}
    count, rendering = render(inline)
    assert (count, list(rendering)) == (0, [])
    assert {path: path.stat().st_mtime_ns for path in inline.iterdir()} == before


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_rendering_is_continued(inline, tmp_path, workers):
    _, rendering = render(tmp_path, workers=workers)
    next(rendering)
    next(rendering)
    rendering.close()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    assert len(done) >= 2
    assert not list(tmp_path.glob("manifest*"))
    for path in done:
        with av.open(str(path)) as container:
            assert len(list(container.decode(video=0))) >= 50
    count, rest = render(tmp_path, workers=1)
    assert count == 6 - len(done)
    assert len(list(rest)) == count
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert videos(tmp_path) == videos(inline)


def test_a_deleted_and_a_damaged_clip_are_rendered_again(inline, tmp_path):
    for path in inline.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{CLIPS[1].id}.mp4").unlink()
    damaged = tmp_path / f"{CLIPS[4].id}.mp4"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    count, rendering = render(tmp_path)
    assert (count, list(rendering)) == (2, [CLIPS[1].id, CLIPS[4].id])
    assert videos(tmp_path) == videos(inline)


def test_two_renderings_at_once_do_no_harm(inline, tmp_path):
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: list(render(tmp_path)[1]), range(2)))
    assert videos(tmp_path) == videos(inline)
    assert not list(tmp_path.glob(".*.part"))


def test_old_partial_files_go_and_young_ones_stay(tmp_path):
    old, young = tmp_path / ".a.1.part", tmp_path / ".b.2.part"
    for path in (old, young):
        path.write_bytes(b"half")
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    list(render(tmp_path, CLIPS[:1])[1])
    assert not old.exists()
    assert young.exists()


def test_a_failing_process_is_reported_with_its_words(tmp_path):
    beyond = write_script(0, 9)[3:9]
    with pytest.raises(RuntimeError, match=r"rendering the demo corpus into .* failed:\n(.|\n)*KeyError: 's00-00[36]'"):
        list(render(tmp_path, beyond)[1])
    assert list(tmp_path.iterdir()) == []


def test_the_folder_names_seed_and_source(tmp_path, monkeypatch):
    first, second = cache.clip_folder(tmp_path, 0), cache.clip_folder(tmp_path, 1)
    assert first != second
    assert cache.source_fingerprint() in first.name
    source = tmp_path / "package"
    source.mkdir()
    (source / "face.py").write_text("eyes = 2")
    monkeypatch.setattr(cache, "__file__", str(source / "cache.py"))
    two_eyes = cache.source_fingerprint()
    (source / "face.py").write_text("eyes = 3")
    assert cache.source_fingerprint() != two_eyes
