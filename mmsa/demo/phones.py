"""Transcripts to timed speech sounds: crude English letter-to-sound rules, formant and mouth targets, durations.

The rules are far from a dictionary, but the syllables, their vowels and their stresses are those of the transcript,
so longer words take longer and the lips close on m, b and p. Formant targets are Peterson and Barney's means for men
(1952, table II), rounded; a speaker's vocal tract scales them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["vowel", "glide", "nasal", "stop", "fricative", "pause"]


@dataclass(frozen=True)
class Phone:
    """One speech sound's targets.

    Attributes:
        kind: its manner.
        formants_hz: the first three resonances, for a man.
        voicing: level of the pulses, 0..1.
        noise: level of the friction noise, 0..1.
        noise_hz: centre of the friction noise.
        jaw: opening of the mouth, 0..1.
        rounding: rounding of the lips, 0..1.
        seconds: duration at a normal rate, unstressed.
    """

    kind: Kind
    formants_hz: tuple[float, float, float]
    voicing: float
    noise: float
    noise_hz: float
    jaw: float
    rounding: float
    seconds: float


def _vowel(f1: float, f2: float, f3: float, jaw: float, rounding: float = 0.0, seconds: float = 0.10) -> Phone:
    return Phone("vowel", (f1, f2, f3), 1.0, 0.0, 0.0, jaw, rounding, seconds)


def _consonant(
    kind: Kind,
    f2: float,
    voicing: float,
    noise: float = 0.0,
    noise_hz: float = 0.0,
    jaw: float = 0.15,
    rounding: float = 0.0,
    seconds: float = 0.065,
) -> Phone:
    return Phone(kind, (300.0, f2, 2500.0), voicing, noise, noise_hz, jaw, rounding, seconds)


PHONES: dict[str, Phone] = {
    "IY": _vowel(270, 2290, 3010, 0.36),
    "IH": _vowel(390, 1990, 2550, 0.42, seconds=0.08),
    "EH": _vowel(530, 1840, 2480, 0.60),
    "AE": _vowel(660, 1720, 2410, 0.85, seconds=0.12),
    "AA": _vowel(730, 1090, 2440, 1.0, seconds=0.12),
    "AO": _vowel(570, 840, 2410, 0.80, 0.5, seconds=0.12),
    "UH": _vowel(440, 1020, 2240, 0.45, 0.5, seconds=0.08),
    "UW": _vowel(300, 870, 2240, 0.36, 1.0),
    "AH": _vowel(640, 1190, 2390, 0.65, seconds=0.08),
    "ER": _vowel(490, 1350, 1690, 0.48, 0.3),
    "L": _consonant("glide", 1000, 0.65, jaw=0.3, seconds=0.06),
    "R": _consonant("glide", 1150, 0.65, jaw=0.25, rounding=0.5, seconds=0.06),
    "W": _consonant("glide", 700, 0.6, jaw=0.15, rounding=1.0, seconds=0.06),
    "Y": _consonant("glide", 2200, 0.6, jaw=0.2, seconds=0.05),
    "M": _consonant("nasal", 1000, 0.45, jaw=0.0),
    "N": _consonant("nasal", 1600, 0.45, jaw=0.15, seconds=0.055),
    "NG": _consonant("nasal", 1900, 0.4, jaw=0.2),
    "B": _consonant("stop", 900, 0.25, 0.12, 900, jaw=0.0),
    "D": _consonant("stop", 1700, 0.25, 0.15, 3200, jaw=0.12, seconds=0.055),
    "G": _consonant("stop", 2000, 0.25, 0.15, 1800, jaw=0.15),
    "P": _consonant("stop", 900, 0.0, 0.22, 1000, jaw=0.0, seconds=0.08),
    "T": _consonant("stop", 1700, 0.0, 0.28, 3800, jaw=0.12, seconds=0.07),
    "K": _consonant("stop", 2000, 0.0, 0.25, 2000, jaw=0.15, seconds=0.075),
    "F": _consonant("fricative", 1200, 0.0, 0.14, 5200, jaw=0.05, seconds=0.085),
    "V": _consonant("fricative", 1200, 0.4, 0.07, 5000, jaw=0.05, seconds=0.06),
    "TH": _consonant("fricative", 1500, 0.0, 0.12, 5500, jaw=0.15, seconds=0.075),
    "DH": _consonant("fricative", 1500, 0.4, 0.05, 5000, jaw=0.15, seconds=0.045),
    "S": _consonant("fricative", 1700, 0.0, 0.32, 5600, jaw=0.1, seconds=0.09),
    "Z": _consonant("fricative", 1700, 0.35, 0.18, 5400, jaw=0.1, seconds=0.07),
    "SH": _consonant("fricative", 1900, 0.0, 0.34, 3200, jaw=0.12, rounding=0.5, seconds=0.095),
    "CH": _consonant("stop", 1900, 0.0, 0.34, 3300, jaw=0.12, rounding=0.5, seconds=0.1),
    "JH": _consonant("stop", 1900, 0.2, 0.22, 3000, jaw=0.12, rounding=0.5, seconds=0.08),
    "HH": _consonant("fricative", 1500, 0.0, 0.1, 1500, jaw=0.35, seconds=0.05),
    "_": Phone("pause", (500.0, 1500.0, 2500.0), 0.0, 0.0, 0.0, 0.03, 0.0, 0.16),
}

_RULES = [
    (r"tion", "SH AH N"), (r"igh", "AA IH"), (r"ould", "UH D"), (r"ough", "AO"), (r"augh", "AA F"), (r"eigh", "EH IH"),
    (r"tch", "CH"), (r"sch", "S K"), (r"ch", "CH"), (r"sh", "SH"), (r"ph", "F"), (r"wh", "W"), (r"ck", "K"),
    (r"ng", "NG"), (r"^kn", "N"), (r"^wr", "R"), (r"qu", "K W"), (r"th(?=e|i|a)", "DH"), (r"th", "TH"),
    (r"ee", "IY"), (r"ea", "IY"), (r"ie$", "IY"), (r"ie", "IY"), (r"oo", "UW"), (r"ou", "AA UH"),
    (r"ow$", "AO UH"), (r"ow", "AA UH"), (r"oi", "AO IH"), (r"oy", "AO IH"), (r"ai", "EH IH"), (r"ay", "EH IH"),
    (r"ey$", "IY"), (r"au", "AO"), (r"aw", "AO"), (r"oa", "AO UH"), (r"ew", "UW"), (r"air", "EH ER"),
    (r"er", "ER"), (r"ir", "ER"), (r"ur", "ER"), (r"ar", "AA R"), (r"or", "AO R"),
    (r"a(?=[^aeiouy]e$)", "EH IH"), (r"i(?=[^aeiouy]e$)", "AA IH"), (r"o(?=[^aeiouy]e$)", "AO UH"),
    (r"u(?=[^aeiouy]e$)", "UW"), (r"le$", "AH L"), (r"ed$", "D"), (r"^y", "Y"), (r"y$", "IY"), (r"y", "IH"),
    (r"(?<=[a-z])e$", ""), (r"c(?=[eiy])", "S"), (r"g(?=[eiy])", "JH"), (r"x", "K S"), (r"s$", "Z"),
    (r"bb", "B"), (r"dd", "D"), (r"ff", "F"), (r"gg", "G"), (r"ll", "L"), (r"mm", "M"), (r"nn", "N"), (r"pp", "P"),
    (r"rr", "R"), (r"ss", "S"), (r"tt", "T"), (r"zz", "Z"),
    (r"a", "AE"), (r"e", "EH"), (r"i", "IH"), (r"o", "AA"), (r"u", "AH"), (r"b", "B"), (r"c", "K"), (r"d", "D"),
    (r"f", "F"), (r"g", "G"), (r"h", "HH"), (r"j", "JH"), (r"k", "K"), (r"l", "L"), (r"m", "M"), (r"n", "N"),
    (r"p", "P"), (r"q", "K"), (r"r", "R"), (r"s", "S"), (r"t", "T"), (r"v", "V"), (r"w", "W"), (r"z", "Z"),
]  # fmt: skip
_COMPILED = [(re.compile(pattern), tuple(sounds.split())) for pattern, sounds in _RULES]
_EXCEPTIONS = {
    "the": "DH AH", "a": "AH", "was": "W AA Z", "to": "T UW", "of": "AH V", "i": "AA IH", "my": "M AA IH",
    "we": "W IY", "by": "B AA IH", "said": "S EH D", "one": "W AH N", "two": "T UW", "four": "F AO R", "what": "W AA T",
    "love": "L AH V", "loved": "L AH V D", "some": "S AH M", "you": "Y UW", "they": "DH EH IH",
    "hated": "HH EH IH T IH D", "me": "M IY", "nice": "N AA IH S", "people": "P IY P AH L",
    "hour": "AA UH ER", "hours": "AA UH ER Z",
}  # fmt: skip
_WEAK = frozenset({
    "the", "a", "an", "was", "to", "of", "i", "my", "we", "by", "in", "on", "at", "it",
    "that", "from", "since", "with", "us", "for", "is", "as", "me", "you", "so", "they",
})  # fmt: skip


@dataclass(frozen=True)
class TimedPhone:
    """A speech sound on the clip's time line.

    Attributes:
        name: key of `PHONES`.
        start_seconds: where it begins.
        seconds: how long it lasts.
        stressed: whether it carries a pitch accent.
    """

    name: str
    start_seconds: float
    seconds: float
    stressed: bool

    @property
    def end_seconds(self) -> float:
        """Where it ends."""
        return self.start_seconds + self.seconds

    @property
    def phone(self) -> Phone:
        """Its targets."""
        return PHONES[self.name]


def pronounce(word: str) -> tuple[str, ...]:
    """Speech sounds of one lower-case word; letters no rule knows are skipped.

    Example:
        >>> pronounce("ship"), pronounce("nice")
        (('SH', 'IH', 'P'), ('N', 'AA', 'IH', 'S'))
    """
    if word in _EXCEPTIONS:
        return tuple(_EXCEPTIONS[word].split())
    sounds: list[str] = []
    position = 0
    while position < len(word):
        for pattern, out in _COMPILED:
            found = pattern.match(word, position)
            if found:
                sounds += out
                position = found.end()
                break
        else:
            position += 1
    return tuple(sounds)


def _spoken(transcript: str) -> list[tuple[str, bool]]:
    """(sound, stressed) for the whole transcript, with pauses at commas and between sentences."""
    out: list[tuple[str, bool]] = []
    for token in re.findall(r"[a-z']+|[,.;:!?]", transcript.lower()):
        if not token[0].isalpha():
            out.append(("_", False))
            continue
        free = token not in _WEAK
        for sound in pronounce(token.replace("'", "")):
            stressed = free and PHONES[sound].kind == "vowel"
            out.append((sound, stressed))
            free = free and not stressed
    while out and out[-1][0] == "_":
        out.pop()
    return out


def time_phones(
    transcript: str, rate: float = 1.0, lead_seconds: float = 0.2, limits_seconds: tuple[float, float] = (1.4, 3.4)
) -> tuple[TimedPhone, ...]:
    """Lay a transcript's sounds on a time line.

    Args:
        transcript: English words.
        rate: speed of speech; 1 is normal.
        lead_seconds: silence before the first sound.
        limits_seconds: shortest and longest speech; it is slowed down or hurried evenly to fit.

    Raises:
        ValueError: nothing to say in `transcript`, or a rate that is not positive.

    Example:
        >>> [(p.name, p.stressed) for p in time_phones("Nice ship.")][:3]
        [('N', False), ('AA', True), ('IH', False)]
    """
    if rate <= 0:
        raise ValueError(f"rate must be positive, not {rate}")
    spoken = _spoken(transcript)
    if not spoken:
        raise ValueError(f"transcript {transcript!r} has no pronounceable word; give at least one word of letters a-z")
    lengths = [PHONES[name].seconds * (1.35 if stressed else 1.0) / rate for name, stressed in spoken]
    total = sum(lengths)
    fit = min(max(total, limits_seconds[0]), limits_seconds[1]) / total
    out, now = [], lead_seconds
    for (name, stressed), length in zip(spoken, lengths, strict=True):
        out.append(TimedPhone(name, now, length * fit, stressed))
        now += length * fit
    return tuple(out)
