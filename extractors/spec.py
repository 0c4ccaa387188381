"""`ExtractorSpec`: the identity of an extractor, as stored beside its features and inside bundles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExtractorSpec:
    """What must be known to compute the same numbers again.

    Attributes:
        name: registry name, `"<package>.<extractor>"`, such as `"speech.librosa"`.
        tool: the library that does the work.
        version: that library's version when the features were made.
        parameters: every argument that changes a number; JSON values only.
        hints: arguments that change no number but help to build it again, such as the folder of the weights;
            outside the fingerprint and outside equality.

    Example:
        >>> spec = ExtractorSpec("speech.librosa", "librosa", "0.11.0", {"hop_seconds": 0.02})
        >>> ExtractorSpec.from_json(spec.to_json()) == spec
        True
    """

    name: str
    tool: str
    version: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values; `hints` is there only where there are any."""
        identity = self._identity()
        return {**identity, "hints": dict(self.hints)} if self.hints else identity

    def _identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "tool": self.tool,
            "version": self.version,
            "parameters": dict(self.parameters),
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return _canonical(self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExtractorSpec:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: a key is missing or unknown.
        """
        known = {"name", "tool", "version", "parameters"}
        if set(data) - {"hints"} != known:
            raise ValueError(f"an extractor spec has the keys {sorted(known)} and maybe 'hints', not {sorted(data)}")
        return cls(data["name"], data["tool"], data["version"], dict(data["parameters"]), dict(data.get("hints", {})))

    @classmethod
    def from_json(cls, text: str) -> ExtractorSpec:
        """Read what `to_json` wrote."""
        return cls.from_dict(json.loads(text))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when any number the extractor computes could change."""
        return hashlib.sha256(_canonical(self._identity()).encode()).hexdigest()[:16]


def _canonical(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
