"""The errors that extraction raises, each telling what was given, what is allowed and what to do."""

from __future__ import annotations


class MediaError(ValueError):
    """The file cannot be used as media: missing, not regular, not media, of a refused kind, or broken."""


class ToolError(RuntimeError):
    """A tool that an extractor needs is absent or cannot be loaded; the message says how to get it."""
