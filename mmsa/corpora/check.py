"""What a corpus holds, what it lacks and where it contradicts itself, clip by clip."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mmsa.corpora import CORPORA, RENDERED, Clip, Corpus, load_corpus
from mmsa.corpora.clip import SPLITS
from mmsa.corpora.table import find_table, make_corpus, read_table
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Task

Severity = Literal["problem", "note"]

PUBLISHED: dict[str, tuple[int, int, int]] = {
    "emorynlp": (9934, 1344, 1328),
    "meld": (9989, 1109, 2610),
    "mosei": (16326, 1871, 4659),
    "mosi": (1284, 229, 686),
    "sims": (1368, 456, 457),
    "sims-en": (1368, 456, 457),
    "simsv2": (2722, 647, 1034),
}
"""Clips of train, valid and test in the literature: MMSA's feature files, and the papers of MELD and EmoryNLP."""

TOTALS = {"mustard": 690}
"""Clips in the literature of corpora that come in several splits, by what their name begins with."""

SHARED: dict[str, frozenset[str]] = {
    "emorynlp": frozenset({"speaker"}),
    "meld": frozenset({"speaker"}),
    "mustard": frozenset({"speaker"}),
    "mustard-speaker-independent": frozenset(),
    "sims": frozenset({"dialogue"}),
    "simsv2": frozenset({"dialogue"}),
}
"""What the official splits share, by the corpus's name or what it begins with: known, and said as a note."""

LEAK_WORDS = 6
"""A transcript of at least so many words in two splits is no coincidence."""


@dataclass(frozen=True)
class Finding:
    """One thing that is missing or inconsistent.

    Attributes:
        severity: `"problem"` for what must be put right or explained, `"note"` for what one should know.
        kind: what it is about, such as `"media"`, `"label"`, `"split"`.
        clip: the clip's id, or "" where it is about the corpus.
        message: what was found.
    """

    severity: Severity
    kind: str
    clip: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """What was found in a corpus.

    Attributes:
        name: of the corpus.
        clips: by split.
        media: how many clips have a media file.
        transcripts: how many have words.
        speakers: how many there are.
        features: the modalities whose features came ready-made.
        labels: by task, how they are distributed: counts by class, or `low`, `mean` and `high`.
        findings: problems first.
    """

    name: str
    clips: Mapping[str, int]
    media: int
    transcripts: int
    speakers: int
    features: tuple[str, ...]
    labels: Mapping[str, Mapping[str, float]]
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        """How many findings are problems."""
        return sum(finding.severity == "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, but for the findings, which have lines of their own."""
        found = {key: value for key, value in vars(self).items() if key != "findings"}
        return {**found, "features": list(self.features), "problems": self.problems}


def check(given: str, root: Path | str | None = None) -> Report:
    """Check a corpus by name, a table, or a folder in an official layout.

    Args:
        given: a registered name; a table, or a folder with one (see `mmsa.corpora.table`), of which rows that cannot
            be read are findings; or a folder in the official layout of a registered corpus.
        root: the folder of a registered corpus.

    Raises:
        UsageError: nothing that can be checked.
    """
    if given in CORPORA:
        return check_corpus(load_corpus(given, root))
    if root is not None:
        raise UsageError(f"--root is the folder of a registered corpus, which {given!r} is not: leave it out")
    path = Path(given)
    if path.is_dir() and not any(path.glob("clips.*")):
        return check_corpus(_recognise(path))
    table = find_table(given)
    if table is None:
        return check_corpus(load_corpus(given))  # says which names there are
    content = read_table(table)
    spoilt = [Finding("problem", p.column or "row", p.clip, str(p)) for p in content.problems]
    if not content.clips:
        return Report(content.name, dict.fromkeys(SPLITS, 0), 0, 0, 0, (), {}, tuple(spoilt))
    return check_corpus(make_corpus(content), spoilt, complete=not spoilt)


def _recognise(folder: Path) -> Corpus:
    """The registered corpus whose official layout a folder has; where several fit, the one it is named after."""
    found: dict[str, Corpus] = {}
    for name in sorted(set(CORPORA) - RENDERED):
        try:
            found[name] = load_corpus(name, folder)
        except UsageError:
            continue
    if folder.resolve().name in found:
        return found[folder.resolve().name]
    if len(found) != 1:
        fits = f"fits {', '.join(found)}" if found else "fits no registered corpus and holds no clips.csv"
        raise UsageError(f"{folder} {fits}: say which with `mmsa corpus check NAME --root {folder}`, which tells more")
    return next(iter(found.values()))


def check_corpus(corpus: Corpus, findings: Iterable[Finding] = (), *, complete: bool = True) -> Report:
    """Check a corpus that was read.

    Args:
        corpus: the clips.
        findings: what reading found.
        complete: whether all clips could be read; else counts and features are not compared.
    """
    found = [*findings, *_splits(corpus)]
    found += [*_counts(corpus), *_features(corpus)] if complete else []
    for examine in (_media, _words, _times, _duplicates, _shared, _turns, _labels):
        found += examine(corpus)
    return Report(
        name=corpus.name,
        clips={split: len(corpus.split(split)) for split in SPLITS},
        media=sum(clip.media is not None and clip.media.is_file() for clip in corpus.clips),
        transcripts=sum(bool(clip.transcript) for clip in corpus.clips),
        speakers=len({clip.speaker for clip in corpus.clips if clip.speaker}),
        features=tuple(sorted(corpus.features)),
        labels={task.name: _distribution(corpus, task) for task in corpus.tasks},
        findings=tuple(sorted(found, key=lambda finding: finding.severity != "problem")),
    )


def _distribution(corpus: Corpus, task: Task) -> dict[str, float]:
    labels = [clip.labels[task.name] for clip in corpus.clips if task.name in clip.labels]
    if isinstance(task, Classification):
        counts = Counter(labels)
        return {name: counts[name] for name in task.classes}
    values = [float(label) for label in labels]
    return {"low": min(values), "mean": math.fsum(values) / len(values), "high": max(values)} if values else {}


def _splits(corpus: Corpus) -> Iterator[Finding]:
    for split in SPLITS:
        if not corpus.split(split):
            yield Finding("problem", "split", "", f"there is no clip in {split}: training needs all three splits")


def _counts(corpus: Corpus) -> Iterator[Finding]:
    own = tuple(len(corpus.split(split)) for split in SPLITS)
    published = PUBLISHED.get(corpus.name)
    if published and own != published:
        told = "{} / {} / {}"
        message = f"{told.format(*own)} clips in {' / '.join(SPLITS)}; the literature has {told.format(*published)}"
        yield Finding("problem", "count", "", message)
    total = TOTALS.get(corpus.name.split("-")[0])
    if total and len(corpus.clips) != total:
        yield Finding("problem", "count", "", f"{len(corpus.clips)} clips; the literature has {total}")


def _features(corpus: Corpus) -> Iterator[Finding]:
    from mmsa.precomputed import open_precomputed

    for key in corpus.features:
        try:
            table = open_precomputed(corpus, key)
        except UsageError as error:
            yield Finding("problem", "features", "", str(error))
            continue
        for clip, reason in table.missing.items():
            yield Finding("note", "features", clip, f"no {key}: {reason}")


def _media(corpus: Corpus) -> Iterator[Finding]:
    named = [clip for clip in corpus.clips if clip.media is not None]
    if not named:
        yield Finding("note", "media", "", "no clip has a media file: the corpus is text or features only")
        return
    for clip in corpus.clips:
        if clip.media is None:
            yield Finding("note", "media", clip.id, "no media file: used without sound and picture")
        elif not clip.media.is_file():
            yield Finding("problem", "media", clip.id, f"its media file is not there: {clip.media}")
        elif not clip.media.stat().st_size:
            yield Finding("problem", "media", clip.id, f"its media file is empty: {clip.media}")


def _words(corpus: Corpus) -> Iterator[Finding]:
    silent = [clip for clip in corpus.clips if not (clip.transcript or "").strip()]
    if len(silent) == len(corpus.clips):
        yield Finding("note", "transcript", "", "no clip has a transcript")
    for clip in silent:
        if clip.media is None and not corpus.features:
            yield Finding("problem", "clip", clip.id, "neither a media file nor a transcript: nothing to learn from")
        elif len(silent) < len(corpus.clips):
            yield Finding("note", "transcript", clip.id, "no transcript")


def _times(corpus: Corpus) -> Iterator[Finding]:
    for clip in corpus.clips:
        start, end = clip.start_seconds or 0.0, clip.end_seconds
        if start < 0 or (end is not None and end <= start):
            yield Finding("problem", "time", clip.id, f"starts at {start} s and ends at {end} s")


def _duplicates(corpus: Corpus) -> Iterator[Finding]:
    stretches: dict[tuple[Any, ...], Clip] = {}
    said: dict[str, list[Clip]] = defaultdict(list)
    for clip in corpus.clips:
        if clip.media is not None:
            first = stretches.setdefault((clip.media, clip.start_seconds, clip.end_seconds), clip)
            if first is not clip:
                yield Finding("problem", "duplicate", clip.id, f"the same stretch of media as {first.id}")
        words = " ".join((clip.transcript or "").lower().split())
        if words:
            said[words].append(clip)
    for words, clips in said.items():
        for clip in clips[1:]:
            apart = next((other for other in clips if other.split != clip.split), None)
            if apart is not None:
                severity: Severity = "problem" if _is_long(words) else "note"
                message = f"the same transcript as {apart.id} in {apart.split}: {words[:60]!r}"
                yield Finding(severity, "duplicate", clip.id, message)
            elif _is_long(words):
                yield Finding("note", "duplicate", clip.id, f"the same transcript as {clips[0].id}: {words[:60]!r}")


def _is_long(text: str) -> bool:
    """Whether a text is too long to recur by chance; two characters of scripts without spaces count as a word."""
    dense = sum(letter.isalpha() and ord(letter) >= 0x3040 for letter in text)
    return max(len(text.split()), dense // 2) >= LEAK_WORDS


def _shared(corpus: Corpus) -> Iterator[Finding]:
    """Speakers, dialogues and media files that are in more than one split."""
    known = SHARED.get(corpus.name, SHARED.get(corpus.name.split("-")[0], frozenset()))
    for kind in ("speaker", "dialogue", "media"):
        splits: dict[Any, set[str]] = defaultdict(set)
        for clip in corpus.clips:
            if getattr(clip, kind) is not None:
                splits[getattr(clip, kind)].add(clip.split)
        both = [key for key, found in splits.items() if len(found) > 1]
        if kind in known and both:
            message = f"{len(both)} of {len(splits)} are in more than one split, as in the official release"
            yield Finding("note", kind, "", f"{kind}: {message}")
            continue
        for key in both:
            yield Finding("problem", kind, "", f"the {kind} {key} is in {' and '.join(sorted(splits[key]))}")


def _turns(corpus: Corpus) -> Iterator[Finding]:
    turns: dict[tuple[str, int], Clip] = {}
    for clip in corpus.clips:
        if clip.dialogue is not None and clip.turn is not None:
            first = turns.setdefault((clip.dialogue, clip.turn), clip)
            if first is not clip:
                yield Finding("problem", "turn", clip.id, f"the same turn of {clip.dialogue} as {first.id}")


def _labels(corpus: Corpus) -> Iterator[Finding]:
    """Range and names of labels are checked when a corpus is read; this says what is lacking."""
    for task in corpus.tasks:
        for clip in corpus.clips:
            if task.name not in clip.labels:
                yield Finding("note", "label", clip.id, f"no {task.name} label")
        trained = [clip.labels[task.name] for clip in corpus.split("train") if task.name in clip.labels]
        if len(set(trained)) < 2 and corpus.split("train"):
            message = f"{task.name} has {len(set(trained))} different labels in train: nothing can be learned"
            yield Finding("problem", "label", "", message)
        elif isinstance(task, Classification):
            absent = [name for name in task.classes if name not in trained]
            if absent:
                yield Finding("problem", "label", "", f"{task.name}: no clip of train is {', '.join(absent)}")
