"""What a corpus holds, what it lacks and where it contradicts itself, clip by clip."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mmsa.corpora import CORPORA, RENDERED, Clip, Corpus, load_corpus
from mmsa.corpora.clip import SPLITS
from mmsa.corpora.table import find_table, make_corpus, read_table
from mmsa.errors import UsageError
from mmsa.tasks import Classification, MultiLabel, Regression, Task

Severity = Literal["problem", "note"]

PUBLISHED: dict[str, tuple[int, int, int]] = {
    "daicwoz": (107, 35, 47),
    "daicwoz-clnf": (107, 35, 47),
    "daicwoz-interviewer": (107, 35, 47),
    "emorynlp": (9934, 1344, 1328),
    "meld": (9989, 1109, 2610),
    "mosei": (16326, 1871, 4659),
    "mosi": (1284, 229, 686),
    "sims": (1368, 456, 457),
    "sims-en": (1368, 456, 457),
    "simsv2": (2722, 647, 1034),
    "twitter2015": (3179, 1122, 1037),
    "twitter2017": (3562, 1176, 1234),
    "twitter_sarcasm": (19816, 2410, 2409),
    "yelp": (35435, 2215, 6655),
}
"""Clips of train, valid and test in the literature: MMSA's feature files; for the others the papers that gave the
splits out."""

UNCONFIRMED = frozenset({"simsv2"})
"""Corpora of whose published counts only that of train was found in a second place: a difference is no problem."""

TOTALS: Mapping[str, tuple[int, ...]] = {
    "iemocap": (10039,),
    "multi_zol": (28429,),
    "mustard": (690,),
    "mvsa-multiple": (17024,),
    "mvsa-single": (4511,),
    "urfunny": (10166, 16514),
}
"""Clips in the literature of corpora that come in several splits, or versions, by name or what it begins with."""

SHARED: dict[str, frozenset[str]] = {
    "emorynlp": frozenset({"speaker"}),
    "meld": frozenset({"speaker"}),
    "multi_zol": frozenset({"media"}),
    "mustard": frozenset({"speaker"}),
    "mustard-speaker-independent": frozenset(),
    "sims": frozenset({"dialogue"}),
    "simsv2": frozenset({"dialogue"}),
}
"""What the official splits share, by the corpus's name or what it begins with: known, and said as a note."""

GENERIC: Mapping[str, re.Pattern[str]] = {"mustard": re.compile(r"PERSON\d*")}
"""Speakers who are no persons, by what the corpus's name begins with: in two splits, they are not the same."""

CARVED = frozenset({"mustard"})
"""Corpora without a validation split of their own, by what their names begin with: theirs is a part of training."""

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
    names = sorted(set(CORPORA) - RENDERED)
    own = folder.resolve().name
    variants = [name for name in names if name != own and "-" in name and name.split("-")[0] in names]
    for group in ([name for name in names if name not in variants], variants):  # variants read the same folders again
        for name in () if found else group:
            with suppress(UsageError):
                found[name] = load_corpus(name, folder)
    if own in found:
        return found[own]
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
    if isinstance(task, MultiLabel):
        counts = Counter(name for label in labels if isinstance(label, tuple) for name in label)
        return {**{name: counts[name] for name in task.classes}, "(none)": sum(label == () for label in labels)}
    if isinstance(task, Classification):
        counts = Counter(map(str, labels))
        return {name: counts[name] for name in task.classes}
    values = [task.encode(label) for label in labels]
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
        yield Finding("note" if corpus.name in UNCONFIRMED else "problem", "count", "", message)
    totals = TOTALS.get(corpus.name, TOTALS.get(corpus.name.split("-")[0]))
    if totals and len(corpus.clips) not in totals:
        message = f"{len(corpus.clips)} clips; the literature has {' or '.join(map(str, totals))}"
        yield Finding("problem", "count", "", message)


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
        for file in clip.files:
            if not file.is_file():
                yield Finding("problem", "media", clip.id, f"its media file is not there: {file}")
            elif not file.stat().st_size:
                yield Finding("problem", "media", clip.id, f"its media file is empty: {file}")


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
            aspect = clip.attributes.get("aspect")  # what a corpus of aspects asks about one post again and again
            first = stretches.setdefault((clip.files, clip.start_seconds, clip.end_seconds, aspect), clip)
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
    carved = corpus.name.split("-")[0] in CARVED
    known = SHARED.get(corpus.name, SHARED.get(corpus.name.split("-")[0], frozenset()))
    for kind in ("speaker", "dialogue", "media"):
        splits: dict[Any, set[str]] = defaultdict(set)
        for clip in corpus.clips:
            if getattr(clip, kind) is not None:
                splits[getattr(clip, kind)].add("train" if carved and clip.split == "valid" else clip.split)
        both = [key for key, found in splits.items() if len(found) > 1]
        if kind in known and both:
            message = f"{len(both)} of {len(splits)} are in more than one split, as in the official release"
            yield Finding("note", kind, "", f"{kind}: {message}")
            continue
        generic = GENERIC.get(corpus.name.split("-")[0]) if kind == "speaker" else None
        for key in both:
            anyone = generic is not None and generic.fullmatch(key)
            message = f"the {kind} {key} is in {' and '.join(sorted(splits[key]))}"
            message += ", but stands for anyone without a name" if anyone else ""
            yield Finding("note" if anyone else "problem", kind, "", message)


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
        elif not isinstance(task, Regression):
            held = {name for label in trained for name in (label if isinstance(label, tuple) else (label,))}
            absent = [name for name in task.classes if name not in held]
            if absent:
                yield Finding("problem", "label", "", f"{task.name}: no clip of train is {', '.join(absent)}")
