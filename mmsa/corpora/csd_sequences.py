"""Which computational sequence of a folder is what: the labels, the words, and the features of each modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmsa.corpora.csd import ComputationalSequence, open_csd
from mmsa.errors import UsageError

LABELS, WORDS, UNREAD = "labels", "words", ""
HINTS = (
    (LABELS, ("label",)),
    (UNREAD, ("phone",)),
    ("text", ("glove", "vector", "bert")),
    (WORDS, ("word",)),
    ("audio", ("covarep", "opensmile")),
    ("vision", ("facet", "openface")),
)
"""Role of a sequence by what its own name or its file's contains, the first that fits, as the SDK names them."""


@dataclass(frozen=True)
class Sequences:
    """The open sequences of a corpus.

    Attributes:
        labels: sentiment, or sentiment and emotions, of each stretch of each video.
        words: what is said, or None.
        features: by modality.
        unread: names of those that are not read.
    """

    labels: ComputationalSequence
    words: ComputationalSequence | None
    features: Mapping[str, ComputationalSequence]
    unread: tuple[str, ...]


@contextmanager
def open_sequences(folder: Path, use: Mapping[str, str] | None = None) -> Iterator[Sequences]:
    """Open the `.csd` files of a folder.

    Args:
        folder: where they lie.
        use: by modality (`labels` and `words` also go), the sequence to take: its name, or its file's. Without it they
            are told by their names; modalities of other names may be given as well.

    Raises:
        UsageError: there are no labels, several sequences would fit one modality, or a file is not as it must be.
    """
    paths = sorted(folder.glob("*.csd"))
    if not paths:
        raise UsageError(f"{folder} holds no .csd files: give the folder with the sequences of one corpus")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_csd(path)) for path in paths]
        chosen = {role: _named(role, name, opened) for role, name in (use or {}).items()}
        for role in dict.fromkeys(role for role, _ in HINTS if role):
            if role not in chosen:
                fitting = [s for s in opened if _role(s) == role and s not in chosen.values()]
                chosen |= {role: _only(role, fitting)} if fitting else {}
        if LABELS not in chosen:
            names = ", ".join(_told(s) for s in opened)
            raise UsageError(f"none of {names} in {folder} is called labels: say which is with --use labels=NAME")
        for role, sequence in chosen.items():
            if sequence.are_words != (role == WORDS):
                held = "words" if sequence.are_words else "numbers"
                raise UsageError(f"{_told(sequence)} holds {held}, which are not {role}: choose with --use {role}=NAME")
        yield Sequences(
            labels=chosen[LABELS],
            words=chosen.get(WORDS),
            features={role: chosen[role] for role in sorted(chosen) if role not in (LABELS, WORDS)},
            unread=tuple(_told(s) for s in opened if s not in chosen.values()),
        )


def _role(sequence: ComputationalSequence) -> str:
    own = f"{sequence.name} {sequence.path.stem}".lower()
    return next((role for role, hints in HINTS if any(hint in own for hint in hints)), UNREAD)


def _named(role: str, name: str, opened: list[ComputationalSequence]) -> ComputationalSequence:
    if not role or not all(letter.isalnum() or letter in "._-" for letter in role):
        raise UsageError(f"a modality's name is made of letters, digits, '.', '_' and '-', not {role!r}")
    found = [s for s in opened if name in (s.name, s.path.name, s.path.stem)]
    if len(found) != 1:
        there = ", ".join(_told(s) for s in opened)
        raise UsageError(f"{'several sequences are' if found else 'no sequence is'} called {name!r}; there are {there}")
    return found[0]


def _only(role: str, fitting: list[ComputationalSequence]) -> ComputationalSequence:
    if len(fitting) > 1:
        there = " or ".join(_told(s) for s in fitting)
        hint = f"choose with --use {role}={fitting[0].name!r}"
        more = "" if role in (LABELS, WORDS) else "; another may be kept as a modality of its own: --use NAME=SEQUENCE"
        raise UsageError(f"{role} could be {there}: {hint}{more}")
    return fitting[0]


def _told(sequence: ComputationalSequence) -> str:
    return f"{sequence.name} ({sequence.path.name})"
