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

    Example:
        >>> spec = ExtractorSpec("speech.librosa", "librosa", "0.11.0", {"hop_seconds": 0.02})
        >>> ExtractorSpec.from_json(spec.to_json()) == spec
        True
    """

    name: str
    tool: str
    version: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return {
            "name": self.name,
            "tool": self.tool,
            "version": self.version,
            "parameters": dict(self.parameters),
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExtractorSpec:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: a key is missing or unknown.
        """
        known = {"name", "tool", "version", "parameters"}
        if set(data) != known:
            raise ValueError(f"an extractor spec has the keys {sorted(known)}, not {sorted(data)}")
        return cls(data["name"], data["tool"], data["version"], dict(data["parameters"]))

    @classmethod
    def from_json(cls, text: str) -> ExtractorSpec:
        """Read what `to_json` wrote."""
        return cls.from_dict(json.loads(text))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when any number the extractor computes could change."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
