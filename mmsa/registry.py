"""MLflow's model registry: from a registered model's name to the run that made it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUN_ID = re.compile(r"[0-9a-f]{32}")
_NAMED = re.compile(r"(?P<scheme>models:/)?(?P<name>[^/:@]+)(?:[/:](?P<version>[0-9]+|latest)|@(?P<alias>[^/:@]+))?")


def registered_run(store: MlflowClient, given: str) -> str | None:
    """The run behind a registered model; None where the name is none of the registry.

    Args:
        store: the client.
        given: `name`, `name:version`, `name@alias`, or these after `models:/`, where `name/version` is usual. Without
            a version the highest one is meant.

    Raises:
        UsageError: the model has no such version, or one that no run made.
    """
    from mlflow.exceptions import MlflowException

    found = _NAMED.fullmatch(given)
    if found is None or RUN_ID.fullmatch(given):
        return None
    name, version, alias = found["name"], found["version"], found["alias"]
    try:
        versions = {str(one.version): one for one in store.search_model_versions(f"name = '{_quoted(name)}'")}
    except MlflowException:
        versions = {}
    if not versions:
        if found["scheme"] or version or alias:
            raise UsageError(f"there is no registered model {name!r} with any version in the MLflow store")
        return None
    told = ", ".join(sorted(versions, key=int))
    if alias is not None:
        try:
            version = str(store.get_model_version_by_alias(name, alias).version)
        except MlflowException:
            raise UsageError(f"the registered model {name!r} has no alias {alias!r}; its versions are {told}") from None
    if version is None or version == "latest":
        version = max(versions, key=int)
    if version not in versions:
        raise UsageError(f"the registered model {name!r} has no version {version}; it has {told}")
    run_id = versions[version].run_id
    if not run_id:
        raise UsageError(f"version {version} of the registered model {name!r} names no run: give a bundle folder")
    return str(run_id)


def _quoted(name: str) -> str:
    return name.replace("'", "")
