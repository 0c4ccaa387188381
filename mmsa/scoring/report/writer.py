"""Writing the pages of a report."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mmsa.errors import UsageError
from mmsa.scoring.colours import DARK, LIGHT, class_colours
from mmsa.scoring.files import Names, whole_file
from mmsa.scoring.inputs import natural
from mmsa.scoring.lines import read_lines
from mmsa.scoring.remote import is_address
from mmsa.scoring.report.moments import Peak, find_gaps, find_peaks
from mmsa.scoring.report.page_data import page_data
from mmsa.scoring.report.player import Media, Player, address_from
from mmsa.scoring.results import Score, TaskSummary

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
SPARK_POINTS = 60
_HELD = 5


def write_report(
    scores: Iterable[Score],
    folder: str | Path,
    *,
    media: str = "auto",
    overlays: Mapping[str, Path] | None = None,
) -> Path:
    """Write a page per result and an index of them.

    Args:
        scores: taken one at a time.
        folder: made if it is not there; what an earlier report left in it is replaced file by file.
        media: how pages play their media; see `mmsa.scoring.report.player.Media`.
        overlays: by `Score.key`, a video with the scores drawn into it, to be played instead on demand.

    Returns:
        The index, `index.html` in the folder. Pages lie in `pages/`, copied or converted media in `media/`.

    Raises:
        UsageError: the folder cannot be written to.

    Example:
        >>> write_report([scorer.score("talk.mp4", window_seconds=10)], "report")  # doctest: +SKIP
    """
    with Report(folder, media=media) as report:
        for score in scores:
            report.add(score, (overlays or {}).get(score.key) if score.key else None)
    return report.index


class Report:
    """A report that is written page by page; use it in a `with` statement, at whose end the index appears.

    Args:
        folder: as for `write_report`.
        media: as for `write_report`.

    Attributes:
        index: the file that leads to all pages.

    Raises:
        UsageError: another `media`, or the folder cannot be made.
    """

    def __init__(self, folder: str | Path, *, media: str = "auto") -> None:
        self.folder = Path(folder)
        self.index = self.folder / "index.html"
        self._media, self._names = Media(self.folder, media), Names()
        self._rows: list[dict[str, Any]] = []
        try:
            (self.folder / "pages").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"no report can be written to {self.folder}: {error}") from None

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write_index()

    def add(self, score: Score, overlay: Path | None = None) -> Path:
        """Write the page of a result; returns where.

        Raises:
            UsageError: the disk does not take it.
        """
        name = self._names.of(score)
        page = self.folder / "pages" / f"{name}.html"
        player = Player("none") if score.error is not None else self._media.player(score.path, name)
        data = page_data(score, read_lines(score) if score.error is None else [])
        data["overlay"] = "" if overlay is None else address_from(page.parent, overlay)
        peaks = find_peaks(score)
        pictures = {} if player.kind != "video" else _pictures(score, peaks)
        self._write(
            page,
            "page.html",
            {
                "data": data,
                "score": score,
                "title": title_of(score),
                "span": _span_of(score),
                "player": player,
                "peaks": [(peak, pictures.get(peak.seconds, "")) for peak in peaks],
                "gaps": find_gaps(score),
                "held": _HELD,
            },
        )
        self._rows.append(index_row(score, address_from(self.folder, page)))
        return page

    def _write_index(self) -> None:
        rows = sorted(self._rows, key=lambda row: natural(row["path"]))
        models = {json.dumps(row.pop("model"), sort_keys=True): None for row in rows}
        about = [json.loads(model) for model in models if model != "{}"]
        self._write(self.index, "index.html", {"data": {"rows": rows}, "models": about, "count": len(rows)})

    def _write(self, path: Path, template: str, values: Mapping[str, Any]) -> None:
        text = self._templates.get_template(template).render(**values)
        try:
            with whole_file(path) as partial:
                partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error}): make room and run the same again") from None

    @cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2

        loader = jinja2.FileSystemLoader(TEMPLATES)
        made = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        made.filters |= {"clock": clock, "for_script": for_script, "summary": summary_words}
        made.globals |= {"inline": _inline, "style": _style(), "hash": _hash}
        return made


def _pictures(score: Score, peaks: Iterable[Peak]) -> dict[float, str]:
    import extractors as ex
    from mmsa.scoring.report.thumbnails import thumbnails

    try:
        return thumbnails(Path(score.path), [peak.seconds for peak in peaks])
    except ex.MediaError:  # the player's note says so
        return {}


def index_row(score: Score, page: str) -> dict[str, Any]:
    """A result in a few numbers, for the index."""
    row: dict[str, Any] = {
        "title": title_of(score),
        "path": score.path,
        "span": _span_of(score),
        "page": page,
        "model": dict(score.model),
        "error": score.error,
        "seconds": score.duration_seconds,
        "gone": score.error is None and not is_address(score.path) and not Path(score.path).exists(),
    }
    if score.summary is not None:
        row |= {
            "windows": score.summary.windows,
            "coverage": {key: round(share, 3) for key, share in score.summary.coverage.items()},
            "tasks": [_index_task(score, name, task) for name, task in score.summary.tasks.items()],
            "notes": len(score.notes),
        }
    return row


def _index_task(score: Score, name: str, task: TaskSummary) -> dict[str, Any]:
    chosen = [window.smoothed[name] for window in _thinned(score) if name in window.smoothed]
    if task.mean is not None:
        points = [round(one.value, 2) for one in chosen if one.value is not None]
        return {"name": name, "mean": round(task.mean, 3), "std": round(task.std or 0.0, 3), "points": points}
    places = dict(zip(task.shares, class_colours(list(task.shares)), strict=True))
    held = sorted((one for one in task.shares if task.shares[one] > 0), key=lambda one: -task.shares[one])
    return {"name": name, "held": [[one, round(task.shares[one], 3), places[one]] for one in held]}


def _thinned(score: Score) -> list[Any]:
    step = max(1, -(-len(score.windows) // SPARK_POINTS))
    return list(score.windows[::step])


def title_of(score: Score) -> str:
    """What a result is called."""
    return score.id or Path(score.path).name or score.path


def _span_of(score: Score) -> str:
    if score.start_seconds is None and score.end_seconds is None:
        return ""
    end = "the end" if score.end_seconds is None else clock(score.end_seconds)
    return f"{clock(score.start_seconds or 0.0)} to {end}"


def clock(seconds: float) -> str:
    """Such as `"1:02:03"`.

    Example:
        >>> clock(3723.9), clock(62)
        ('1:02:03', '1:02')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary_words(task: TaskSummary) -> str:
    """A task's summary in one line."""
    if task.mean is not None:
        alone = task.lowest is not None and task.lowest == task.highest
        return f"{task.mean:+.2f}" if alone else f"{task.mean:+.2f} ± {task.std or 0.0:.2f}"
    held = sorted((name for name in task.shares if task.shares[name] > 0), key=lambda name: -task.shares[name])
    return ", ".join(f"{name} {task.shares[name]:.0%}" for name in held[:3]) or "none"


def for_script(data: Any) -> Any:
    """JSON that nothing in it can end the script element with, nor begin a comment."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _inline(name: str) -> Any:
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _style() -> Any:
    from markupsafe import Markup

    def shades(names: Iterable[str]) -> str:
        return "".join(f"--c{place}:{colour};" for place, colour in enumerate(names))

    light, dark = shades(LIGHT), shades(DARK)
    colours = (
        f":root{{{light}}}@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}"
    )
    classes = "".join(f".c{place}{{--c:var(--c{place})}}" for place in range(len(LIGHT)))
    text = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return Markup(f"{colours}{classes}\n{text}")


def _hash(text: str) -> str:
    """What a content security policy names an inline style or program by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()}'"
