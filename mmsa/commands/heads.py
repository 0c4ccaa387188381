"""The command `mmsa heads`."""

from __future__ import annotations

import json

import typer
from rich.table import Table

from mmsa.commands.console import Json, out


def heads(as_json: Json = False) -> None:
    """List the fusion heads."""
    from dataclasses import asdict

    from fusion import describe, head_classes

    rows = [describe(name) for name in head_classes()]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(asdict(row)))
        return
    table = Table("head", "class", "family", "aligned", "parameters", "paper", title="Fusion heads")
    for row in rows:
        aligned = "yes" if row.needs_alignment else "no"
        table.add_row(row.name, row.class_name, row.family, aligned, f"{row.parameters:,}", row.paper)
    out.print(table)
    out.print("Parameters: text 768, audio 5, vision 20 features, one output, default sizes.")
