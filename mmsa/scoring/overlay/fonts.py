"""Fonts for drawn text: one that has the letters of what is said."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any


def default_font() -> Path:
    """DejaVu Sans, which Matplotlib carries: Latin, Greek, Cyrillic, Arabic and more."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def find_font(text: str) -> tuple[Path, str]:
    """A font with every letter of a text, and "" or a note where none on this machine has them all.

    The default where it does, else the first of the machine's fonts (in order of their paths) that does.
    """
    wanted = {ord(letter) for letter in text if letter.isprintable() and not letter.isspace()}
    missing = wanted - _letters(default_font())
    if not missing:
        return default_font(), ""
    from matplotlib.font_manager import findSystemFonts

    for path in sorted(findSystemFonts()):
        if wanted <= _letters(Path(path)):
            return Path(path), ""
    few = "".join(map(chr, sorted(missing)[:8]))
    return default_font(), (
        f"no font on this machine has the letters {few!r} of the transcript, so boxes stand for them: install one "
        "(on Debian or Ubuntu, `apt-get install -y fonts-noto-cjk` for Chinese, Japanese and Korean)"
    )


@lru_cache(maxsize=512)
def _letters(path: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (RuntimeError, OSError):  # a bitmap font, say
        return frozenset()


@lru_cache(maxsize=64)
def load_font(path: Path, size: int) -> Any:
    """A font of Pillow's, `size` pixels high."""
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size)


def wrap(text: str, font: Any, width: float, lines: int) -> list[str]:
    """A text in at most so many lines of a width in pixels; what does not fit ends in "…".

    Words are broken where they are longer than a line, as in scripts without spaces.
    """
    made, line = list[str](), ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            made.append(line)
        line = word
        while font.getlength(line) > width and len(line) > 1:
            cut = max(1, next((n for n in range(len(line), 0, -1) if font.getlength(line[:n]) <= width), 1))
            made.append(line[:cut])
            line = line[cut:]
    made.append(line)
    made = [one for one in made if one]
    if len(made) > lines:
        made = made[:lines]
        while made[-1] and font.getlength(f"{made[-1]}…") > width:
            made[-1] = made[-1][:-1]
        made[-1] += "…"
    return made
