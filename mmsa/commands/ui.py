"""The command `mmsa ui`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mmsa.commands.console import out
from mmsa.errors import UsageError


def ui(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open MLflow's UI on the store that training writes to."""
    from mmsa.tracking import STORE, is_default_store, tracking_uri

    uri = tracking_uri()
    if uri.startswith(("http://", "https://", "databricks")):
        out.print(f"The runs are on a tracking server: open {uri} in a browser.", soft_wrap=True)
        return
    if is_default_store() and not (STORE / "mlflow.db").is_file():
        raise UsageError(f"no run yet in {STORE.resolve()}: run `mmsa train` first, here, or set MLFLOW_TRACKING_URI")
    out.print(f"MLflow's UI on {uri}: http://{host}:{port} (Ctrl-C ends it)", highlight=False, soft_wrap=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)
