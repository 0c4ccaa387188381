"""One way in for every kind of ready-made features: what is given decides how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.corpora.imported import Imported
    from mmsa.corpora.padding import Side


def import_corpus(
    source: Path | str,
    folder: Path | str,
    *,
    name: str | None = None,
    labels: str | tuple[float, float] | None = None,
    padding: Side | None = None,
    folds: Path | str | None = None,
    use: Mapping[str, str] | None = None,
) -> Imported:
    """Turn features of other toolkits into a corpus that can be trained on without any extractor.

    Args:
        source: a feature pickle of MMSA, MMSA-FET or MultiBench; a folder with the CMU-MultimodalSDK's `.csd` files; or
            one with UR-FUNNY's pickles. Nothing in any of them is run.
        folder: where to write the corpus; must not exist.
        name: of the corpus; None is the folder's.
        labels: of a pickle (`mmsa.corpora.mmsa_pickle`).
        padding: of a pickle.
        folds: of `.csd` files (`mmsa.corpora.csd_import`).
        use: of `.csd` files.

    Raises:
        UsageError: the source is none of these, is not as it must be, or an option is not for its kind; or the folder
            exists.
    """
    source = Path(source)
    if not source.is_dir():
        _refuse(source, "a file, which is read as a pickle", {"--folds": folds, "--use": use})
        from mmsa.corpora.mmsa_pickle import import_pickle

        return import_pickle(source, folder, name=name, labels=labels, padding=padding)
    if any(source.glob("*.csd")):
        _refuse(source, "a folder of computational sequences", {"--labels": labels, "--padding": padding})
        from mmsa.corpora.csd_import import import_csd

        return import_csd(source, folder, name=name, folds=folds, use=use)
    if (source / "data_folds.pkl").is_file():
        options = {"--labels": labels, "--padding": padding, "--folds": folds, "--use": use}
        _refuse(source, "UR-FUNNY's folder", options)
        from mmsa.corpora.urfunny import import_urfunny

        return import_urfunny(source, folder, name=name)
    raise UsageError(
        f"{source} is a folder with neither .csd files (CMU-MultimodalSDK) nor data_folds.pkl (UR-FUNNY): "
        "give one of these, or a feature pickle of MMSA, MMSA-FET or MultiBench"
    )


def _refuse(source: Path, kind: str, options: Mapping[str, object]) -> None:
    given = [option for option, value in options.items() if value]
    if given:
        raise UsageError(f"{source} is {kind}: leave {' and '.join(given)} out")
