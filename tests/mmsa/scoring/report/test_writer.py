from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from mmsa.errors import UsageError
from mmsa.scoring.lines import read_lines
from mmsa.scoring.report import Report, write_report
from mmsa.scoring.report.page_data import page_data
from mmsa.scoring.report.writer import clock, for_script
from mmsa.scoring.results import Score, WindowScore

MakeScore = Callable[..., Score]
MakeVideo = Callable[..., Path]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


class Page(HTMLParser):
    """Elements in order, the texts of scripts and styles, and all other text."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._open = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open][-1] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.elements if name == tag]

    @property
    def data(self) -> dict[str, object]:
        return dict(json.loads(self.inside["script"][0]))


def page_of(folder: Path, name: str) -> Page:
    return Page(folder / "pages" / f"{name}.html")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, make_score: MakeScore, make_video: MakeVideo) -> Path:
    """A report of a timeline, an error, sound alone, and media that has gone."""
    root = tmp_path_factory.mktemp("written")
    video = make_video(root / "talk.mp4", 26.0)
    video.with_suffix(".vtt").write_text(
        "WEBVTT\n\n" + "\n\n".join(f"00:{2 * k:02}.000 --> 00:{2 * k + 2:02}.000\n<v Ann>line {k}" for k in range(12))
    )
    sound = make_video(root / "sound.m4a", 6.0)
    scores = [
        make_score(video),
        make_score(sound, 1, 6.0, key="b" * 32),
        Score(str(root / "bad.mp4"), error="it is broken", model={"digest": "0" * 32}),
        make_score(root / "gone.mp4", 2),
    ]
    write_report(scores, root / "report")
    return root / "report"


def test_pages_carry_the_rows(written: Path, make_score: MakeScore) -> None:
    score = make_score(written.parent / "talk.mp4")
    expected = page_data(score, read_lines(score))
    found = page_of(written, "talk").data
    assert found.pop("overlay") == ""
    assert found == json.loads(json.dumps(expected))
    assert len(expected["lines"]) == 12


def test_the_index_leads_to_every_page(written: Path) -> None:
    rows = Page(written / "index.html").data["rows"]
    assert isinstance(rows, list)
    assert [row["title"] for row in rows] == ["bad.mp4", "gone.mp4", "sound.m4a", "talk.mp4"]
    for row in rows:
        assert (written / unquote(row["page"])).is_file()
    assert [row["error"] for row in rows] == ["it is broken", None, None, None]
    assert [row["gone"] for row in rows] == [False, True, False, False]
    talk = rows[3]
    assert talk["seconds"] == 26
    assert talk["tasks"][0]["name"] == "sentiment"
    assert sum(share for _, share, _ in talk["tasks"][1]["held"]) == pytest.approx(1.0, abs=0.01)


def test_errors_and_missing_media_are_said(written: Path) -> None:
    bad = page_of(written, "bad")
    assert "it is broken" in bad.text
    assert bad.all("video") == bad.inside["script"] == []
    gone = page_of(written, "gone")
    assert "cannot be read any more" in gone.text
    assert gone.all("video") == []
    assert len(gone.data["windows"]["start"]) == 2  # type: ignore[index, call-overload]


def test_peaks_have_pictures_and_gaps_reasons(written: Path) -> None:
    page = page_of(written, "talk")
    pictures = [one["src"] for one in page.all("img")]
    assert len(pictures) >= 3
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in pictures)
    assert "no face found" in page.text
    assert "no audio in window" in page.text


def test_pages_load_nothing_and_name_their_programs(written: Path) -> None:
    """The policy holds the hash of exactly the one style and the one program, and allows no address of the network."""
    for path in (written / "index.html", *(written / "pages").iterdir()):
        page = Page(path)
        policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "http" not in policy
        programs = page.inside["script"][1:] + page.inside["style"]
        for text in programs:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
        for tag, given in page.elements:
            assert not [name for name in given if name.startswith("on") or name == "style"], (tag, given)
            for name in ("src", "href"):
                assert re.match(r"(data:|\.\./|\./|[\w%.-]+(/|$))", given.get(name) or "."), given
                assert not (given.get(name) or "").startswith(("http", "//", "javascript"))


def test_hostile_words_stay_words(tmp_path: Path, make_score: MakeScore, make_video: MakeVideo) -> None:
    """In the file's name, the transcript, the speaker, the reason, a note, the id, a column and an error."""
    name = HOSTILE.replace("/", "⁄")
    video = make_video(tmp_path / f"{name}.mp4", 2.0)
    clean = make_score(video, 1, 2.0)
    first = clean.windows[0]
    gone = replace(first.modalities["text"], present=False, reason=HOSTILE)
    window = replace(first, text=HOSTILE, speaker=HOSTILE, modalities={**first.modalities, HOSTILE: gone})
    scores = [
        replace(clean, windows=(window,), notes=(HOSTILE,), extra={HOSTILE: HOSTILE}, id=HOSTILE),
        Score(HOSTILE, error=HOSTILE),
    ]
    index = write_report(scores, tmp_path / "report")
    pages = [Page(index), *(Page(path) for path in sorted((tmp_path / "report" / "pages").iterdir()))]
    assert len(pages) == 3
    for page in pages:
        assert len(page.inside["script"]) in (0, 2)
        assert not [given for given in page.all("img") if given.get("src") == "x"]
        assert not any("alert" in text for text in page.inside["script"][1:])
    shown = next(page for page in pages if page.all("video"))
    assert shown.data["lines"][0][3] == HOSTILE  # type: ignore[index]
    assert shown.text.count(HOSTILE) >= 4


@pytest.mark.parametrize("text", ["</script>", "<!--", "\u2028", "]]>", "&lt;"])
def test_json_cannot_end_its_element(text: str) -> None:
    made = str(for_script({"a": [text]}))
    assert not set("<>&\u2028") & set(made)
    assert json.loads(made) == {"a": [text]}


def test_a_page_of_two_hours_is_bounded(tmp_path: Path, make_score: MakeScore) -> None:
    """2,880 windows: about 600 bytes each, whatever else; the index holds 60 points of it."""
    index = write_report([make_score("gone.mp4", 2880, 5.0, 2.5)], tmp_path)
    page = tmp_path / "pages" / "gone.html"
    assert page.stat().st_size < 2_100_000
    assert len(page_of(tmp_path, "gone").elements) < 250
    (row,) = Page(index).data["rows"]  # type: ignore[misc]
    assert len(row["tasks"][0]["points"]) <= 60


def test_nothing_scored_and_images(tmp_path: Path, make_score: MakeScore) -> None:
    from PIL import Image

    Image.new("RGB", (32, 24), (10, 200, 10)).save(tmp_path / "a.png")
    still = replace(make_score(tmp_path / "a.png", 1, 0.0), duration_seconds=0.0)
    empty = Score("s3://b/c.wav", duration_seconds=2.0, windows=(WindowScore(0, 0.0, 2.0),))
    write_report([still, empty], tmp_path / "report")
    assert len(page_of(tmp_path / "report", "a").all("img")) == 1
    assert page_of(tmp_path / "report", "c").data["tasks"] == []


def test_an_interrupted_report_has_no_index(tmp_path: Path, make_score: MakeScore) -> None:
    def scores() -> Sequence[Score]:
        yield make_score("a.mp4", 2)  # type: ignore[misc]
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_report(scores(), tmp_path / "report")
    assert [path.name for path in (tmp_path / "report").rglob("*.html")] == ["a.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no report can be written to"):
        Report(tmp_path / "file" / "report")


def test_clock() -> None:
    assert [clock(at) for at in (0, 59.99, 60, 3600)] == ["0:00", "0:59", "1:00", "1:00:00"]


@pytest.mark.slow
class TestInABrowser:
    """The pages in Chromium: opened from the disk, clicked, played."""

    def test_seeking_by_address_click_key_and_peak(self, browsers: ModuleType, written: Path) -> None:
        with browsers.Browser() as browser:
            browser.open(written / "pages" / "talk.html", "#t=8.5")
            now = "Number(document.getElementById('timeline').getAttribute('aria-valuenow'))"
            browser.wait_for("document.getElementById('media').currentTime === 8.5")
            assert browser.run(now) == 8.5
            # Windows of 4 s every 2 s: the middle of number 3, the fourth, is the nearest to 8.5 s.
            assert "window 4: 0:06.0–0:10.0" in browser.run("document.getElementById('now-window').textContent")
            assert browser.run("document.querySelector('[aria-current=true]').textContent") == "0:08Annline 4"
            width = browser.run("document.getElementById('timeline').clientWidth")
            at = 96 + 0.75 * (width - 106)  # gutters of 96 and 10 pixels
            browser.click("#timeline", x=at, y=60)
            assert browser.run(now) == pytest.approx(19.5, abs=0.05)
            browser.wait_for("Math.abs(document.getElementById('media').currentTime - 19.5) < 0.06")
            moved = browser.run("document.querySelector('.playhead').parentNode.getAttribute('transform')")
            assert float(re.findall(r"[\d.]+", moved)[0]) == pytest.approx(at, abs=1)
            browser.press("ArrowLeft")
            assert browser.run(now) == pytest.approx(18.5, abs=0.05)
            browser.press("Home")
            assert browser.run(now) == 0
            browser.press("PageDown")
            assert browser.run(now) == pytest.approx(4.0, abs=0.01)  # the middle of the second window
            seek = float(browser.run("document.querySelector('.peak').dataset.seek"))
            browser.click(".peak")
            assert browser.run(now) == pytest.approx(seek, abs=0.01)
            browser.click("[data-line='5']")
            assert browser.run(now) == 10
            assert browser.complaints == []
            assert [one for one in browser.requests if not one.startswith(("file:", "data:"))] == []

    def test_playing_moves_the_timeline(self, browsers: ModuleType, written: Path) -> None:
        with browsers.Browser(420, 900, dark=True) as browser:
            browser.open(written / "pages" / "talk.html", "#t=5")
            browser.wait_for("document.getElementById('media').readyState > 2")
            browser.run("document.getElementById('media').play().then(() => true)")
            browser.wait_for("document.getElementById('timeline').getAttribute('aria-valuenow') > 5.5")
            apart = (
                "Math.abs(document.getElementById('media').currentTime -"
                " document.getElementById('timeline').getAttribute('aria-valuenow'))"
            )
            assert browser.run(apart) < 0.5
            # Nothing hangs over the edge of a narrow screen.
            assert browser.run("document.documentElement.scrollWidth") <= 420
            assert browser.complaints == []

    def test_hostile_pages_run_nothing(
        self, browsers: ModuleType, tmp_path: Path, make_score: MakeScore, make_video: MakeVideo
    ) -> None:
        video = make_video(tmp_path / "<script>window.hacked=1<⁄script>.mp4", 2.0)
        score = make_score(video, 3, 1.0, 0.5)
        bad = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
        windows = tuple(replace(one, text=bad, speaker=bad) for one in score.windows)
        index = write_report([replace(score, windows=windows), Score(bad, error=bad)], tmp_path / "r", media="link")
        with browsers.Browser() as browser:
            browser.open(index)
            assert browser.run("document.querySelectorAll('#files tbody tr').length") == 2
            browser.click("#files tbody tr:nth-child(1) a")
            for page in sorted((tmp_path / "r" / "pages").iterdir()):
                browser.open(page)
                assert browser.run("window.hacked") is None
            browser.open(next(page for page in (tmp_path / "r" / "pages").iterdir() if "hacked=1<⁄" in page.name))
            assert "onerror" in browser.run("document.getElementById('words').textContent")
            browser.wait_for("document.getElementById('media').readyState > 0")
            assert browser.complaints == []

    def test_two_hours_keep_the_page_small_and_quick(
        self, browsers: ModuleType, tmp_path: Path, make_score: MakeScore
    ) -> None:
        media = tmp_path / "long.mp4"
        at = [f"{k // 1200}:{k // 20 % 60:02}:{3 * k % 60:02}.000" for k in range(2400)]
        lines = (f"{at[k]} --> {at[k + 1]}\nline {k}" for k in range(2399))
        media.with_suffix(".vtt").write_text("WEBVTT\n\n" + "\n\n".join(lines))
        write_report([make_score(media, 2880, 5.0, 2.5)], tmp_path / "r")
        with browsers.Browser() as browser:
            browser.open(tmp_path / "r" / "pages" / "long.html", "#t=7000")
            assert browser.run("document.querySelector('[aria-current=true]').textContent").endswith("line 2333")
            assert browser.run("document.getElementsByTagName('*').length") < 1000
            points = "Math.max(...[...document.querySelectorAll('path')].map(one => one.getAttribute('d').length))"
            assert browser.run(points) < 120_000
            browser.click("#zoom-in")
            browser.click("#zoom-in")
            assert browser.run("Number(document.getElementById('timeline').getAttribute('aria-valuenow'))") == 7000
            assert browser.complaints == []

    def test_the_index_sorts_and_finds(self, browsers: ModuleType, written: Path) -> None:
        titles = "[...document.querySelectorAll('#files tbody a')].map(one => one.textContent)"
        with browsers.Browser() as browser:
            browser.open(written / "index.html")
            assert browser.run(titles) == ["bad.mp4", "gone.mp4", "sound.m4a", "talk.mp4"]
            browser.click("#files thead th:nth-child(2) button")
            browser.click("#files thead th:nth-child(2) button")
            assert browser.run(titles)[0] == "talk.mp4"  # the longest; errors have no length and come last
            assert browser.run(titles)[-1] == "bad.mp4"
            browser.click("#failed")
            assert browser.run(titles) == ["bad.mp4"]
            browser.click("#files tbody a")
            browser.wait_for("document.querySelector('h1')?.textContent.includes('bad.mp4')")
