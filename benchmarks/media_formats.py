"""What happens to each kind of media file: `mmsa extract` on every file of `media_files.py`, as a Markdown table.

```sh
python benchmarks/media_formats.py                  # prints the table
python benchmarks/media_formats.py docs/media.md    # writes it into the page, between the page's two marks
python benchmarks/media_formats.py --only mkv       # only files with this in their names
```

Each file lies alone in a folder, and the command is the user's own, with the default extractors (librosa's descriptors
and FaceMesh); what is in the table is what it printed and how it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from media_files import FILES, Example, Source, talking_face

from extractors.media import ALLOWED_FORMATS, ALLOWED_IN_WORDS
from extractors.still_image import is_still_image

BEGIN, END = "<!-- table: python benchmarks/media_formats.py docs/media.md -->", "<!-- end of table -->"
HEADER = ("file", "what it is", "holds", "audio", "vision", "what is said of it", "exit")


@dataclass(frozen=True)
class Row:
    """What happened to a file.

    Attributes:
        name: of the file.
        about: what is special about it.
        holds: its streams, as FFmpeg announces them.
        steps: by modality; empty where the file was refused.
        told: what the user reads of it.
        code: exit code of the command.
    """

    name: str
    about: str
    holds: str
    steps: dict[str, int]
    told: str
    code: int

    @property
    def cells(self) -> tuple[str, ...]:
        """As in the table."""
        counts = tuple(str(self.steps[key]) if key in self.steps else "" for key in ("audio", "vision"))
        return (f"`{self.name}`", self.about, self.holds, *counts, self.told.replace("|", "\\|"), str(self.code))


def run(example: Example, source: Source, folder: Path) -> Row:
    """Make a file and extract it."""
    path = folder / example.name / example.name
    path.parent.mkdir(parents=True)
    example.make(path, source)
    code, printed, complained = _mmsa("extract", str(path.parent), "--output", str(folder / "features"), "--json")
    found = json.loads(printed) if printed.strip() else {}
    told = [f"{key}: {reason}" for key, reason in found.get("missing", {}).items()] + found.get("notes", [])
    if "error" in found:
        told = [found["error"]]
    elif not found:
        told = [complained.strip().removeprefix("Error: ")]
    text = " ".join(
        "; ".join(told).replace(str(path.parent), "FOLDER").replace(ALLOWED_IN_WORDS, "allowed are …").split()
    )
    return Row(example.name, example.about, holds(path), found.get("steps", {}), text, code)


def _mmsa(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command, run in this process."""
    from mmsa.cli import main

    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["mmsa", *arguments]
    code: int | str | None = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = before
    return int(code or 0), out.getvalue(), err.getvalue()


def holds(path: Path) -> str:
    """The streams of a file, in short; nothing for what FFmpeg does not open, or must not."""
    if not path.is_file():
        return ""
    if path.stat().st_size and is_still_image(path):
        return "a still image"
    try:
        with av.open(str(path), container_options={"format_whitelist": ",".join(ALLOWED_FORMATS)}) as media:
            return ", ".join(filter(None, (_stream(stream) for stream in media.streams)))
    except (av.error.FFmpegError, ValueError):
        return ""


def _stream(stream: av.stream.Stream) -> str:
    context = stream.codec_context
    if context is None:
        return "no decoder"
    if stream.type == "video":
        return f"{context.name} {context.pix_fmt or 'unknown'} {context.width}×{context.height}"
    if stream.type == "audio":
        return f"{context.name} {context.sample_rate} Hz {context.layout.name}"
    return ""


def rows(only: str = "") -> Iterator[Row]:
    """All of them, one after the other."""
    source = talking_face()
    with tempfile.TemporaryDirectory() as folder:
        for example in FILES:
            if only in example.name:
                yield run(example, source, Path(folder))


def table(found: list[Row]) -> str:
    """Markdown."""
    lines = [HEADER, ("---",) * len(HEADER), *(row.cells for row in found)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def written(page: Path) -> str:
    """The table that a page holds."""
    return page.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path, nargs="?", help="a page with the two marks")
    parser.add_argument("--only", default="", help="only files with this in their names")
    options = parser.parse_args()
    found = table(list(rows(options.only)))
    if options.page is None:
        print(found)
        return
    text = options.page.read_text(encoding="utf-8")
    replaced = re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n\n{found}\n\n{END}", text, flags=re.DOTALL)
    options.page.write_text(replaced, encoding="utf-8")


if __name__ == "__main__":
    main()
