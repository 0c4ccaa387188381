"""The command `mmsa doctor`."""

from __future__ import annotations

import json

import typer

from mmsa.commands.console import Json, out, plain


def doctor(as_json: Json = False) -> None:
    """Say what works on this machine, and what to do about the rest."""
    from mmsa.doctor import examine

    colours = {"ok": "green", "limited": "yellow", "broken": "red"}
    worst = False
    for finding in examine():
        worst |= finding.status == "broken"
        if as_json:
            typer.echo(json.dumps(finding.to_dict()))
            continue
        colour = colours[finding.status]
        out.print(f"[{colour}]{finding.status:8}[/] [bold]{finding.name:11}[/] {plain(finding.found)}", highlight=False)
        if finding.advice and finding.status != "ok":
            out.print(f"{'':21}→ {plain(finding.advice)}", highlight=False, soft_wrap=True)
    if worst:
        raise typer.Exit(1)
