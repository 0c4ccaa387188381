from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmsa.bundle import DESCRIPTION
from mmsa.errors import UsageError
from mmsa.tracking import BUNDLE, client, find_bundle, is_default_store, open_run, tracking_uri


def finished_run(tmp_path: Path, content: str = "{}", experiment: str = "made") -> str:
    """A finished run whose bundle holds a description alone."""
    with open_run(experiment, "a run", {}) as run:
        folder = tmp_path / f"artifacts-{run.run_id}"
        (folder / BUNDLE).mkdir(parents=True)
        (folder / BUNDLE / DESCRIPTION).write_text(content, encoding="utf-8")
        run.artifacts(folder)
    return run.run_id


def test_the_default_store_lies_in_the_working_directory(workspace: Path, tmp_path: Path) -> None:
    assert is_default_store()
    assert tracking_uri() == f"sqlite:///{workspace / 'mlruns' / 'mlflow.db'}"
    run_id = finished_run(tmp_path)
    assert find_bundle(run_id) == workspace / "mlruns" / "artifacts" / run_id / "artifacts" / BUNDLE


def test_the_environment_decides_where_runs_go(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.db"
    shutil.copy(workspace / "mlruns" / "mlflow.db", other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert not is_default_store()
    run_id = finished_run(tmp_path)
    assert client().get_run(run_id).info.status == "FINISHED"
    assert (find_bundle(run_id) / DESCRIPTION).is_file()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(UsageError, match=f"no bundle found for '{run_id}'"):
        find_bundle(run_id)


def test_a_store_that_cannot_be_is_a_usage_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    with pytest.raises(UsageError, match=r"the MLflow store nonsense://here cannot be opened: .*MLFLOW_TRACKING_URI"):
        client()


def test_a_run_keeps_what_is_logged(workspace: Path) -> None:
    with open_run("made", "my run", {"mmsa.head": "late"}) as run:
        run.params({"epochs": 3, "long": "x" * 900, "nothing": None})
        run.metrics({"valid/loss": 0.5, "valid/sentiment.mae": 1.5}, step=1)
        run.metrics({"valid/loss": 0.25}, step=2)
        assert client().get_run(run.run_id).info.status == "RUNNING"
    found = client().get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "my run"
    assert found.data.tags["mmsa.head"] == "late"
    assert found.data.tags["mmsa"] == "train"
    assert found.data.params == {"epochs": "3", "long": "x" * 500, "nothing": "None"}
    assert found.data.metrics == {"valid/loss": 0.25, "valid/sentiment.mae": 1.5}
    history = [(m.step, m.value) for m in client().get_metric_history(run.run_id, "valid/loss")]
    assert history == [(1, 0.5), (2, 0.25)]


def test_many_metrics_are_logged_in_parts(workspace: Path) -> None:
    """A store takes at most 1000 metrics at once."""
    with open_run("made", "my run", {}) as run:
        run.metrics({f"m{i}": float(i) for i in range(1100)})
    assert client().get_run(run.run_id).data.metrics == {f"m{i}": float(i) for i in range(1100)}


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt("stop"), "KILLED"), (RuntimeError("stop"), "FAILED"), (None, "FINISHED")]
)
def test_a_run_ends_as_it_went(workspace: Path, error: BaseException | None, status: str) -> None:
    run_ids = []

    def work() -> None:
        with open_run("made", "my run", {}) as run:
            run_ids.append(run.run_id)
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error), match="stop"):
            work()
    found = client().get_run(run_ids[0]).info
    assert found.status == status
    assert found.end_time is not None


def test_runs_of_one_experiment_stay_together(workspace: Path) -> None:
    ids = set()
    for name in ("one", "two"):
        with open_run("made", name, {}) as run:
            ids.add(run.experiment_id)
    assert len(ids) == 1


def test_a_deleted_experiment_is_not_written_to(workspace: Path) -> None:
    with open_run("made", "my run", {}) as run:
        pass
    client().delete_experiment(run.experiment_id)
    with pytest.raises(UsageError, match="experiment 'made' is deleted: restore it, or set another experiment"):
        open_run("made", "again", {}).__enter__()


class TestFindBundle:
    def test_by_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / DESCRIPTION).write_text("{}", encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        assert find_bundle("mine") == Path("mine")
        assert not (tmp_path / "mlruns").exists()

    def test_by_run_id(self, workspace: Path, tmp_path: Path) -> None:
        first, second = finished_run(tmp_path, '{"n": 1}'), finished_run(tmp_path, '{"n": 2}')
        assert (find_bundle(first) / DESCRIPTION).read_text(encoding="utf-8") == '{"n": 1}'
        assert (find_bundle(second) / DESCRIPTION).read_text(encoding="utf-8") == '{"n": 2}'

    def test_latest_is_the_newest_finished_run_of_any_experiment(self, workspace: Path, tmp_path: Path) -> None:
        finished_run(tmp_path, '{"n": 1}', experiment="one")
        finished_run(tmp_path, '{"n": 2}', experiment="two")
        with pytest.raises(RuntimeError, match="broke"), open_run("one", "failed", {}):
            raise RuntimeError("broke")
        foreign = client().create_run(client().get_experiment_by_name("one").experiment_id)
        client().set_terminated(foreign.info.run_id, "FINISHED")
        assert (find_bundle("latest") / DESCRIPTION).read_text(encoding="utf-8") == '{"n": 2}'

    def test_latest_of_an_empty_store(self, workspace: Path) -> None:
        with pytest.raises(UsageError, match=r"no finished run in sqlite:.*: run `mmsa train` first"):
            find_bundle("latest")

    @pytest.mark.parametrize(
        ("run", "says"), [("latest", "no run yet"), ("abc", "there is no folder abc, and no run yet")]
    )
    def test_without_a_store_none_is_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, says: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match=f"^{says} in .*mlruns: run `mmsa train` first, or give a run id or a b"):
            find_bundle(run)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_no_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"is a folder but not a bundle: it holds no bundle\.json"):
            find_bundle(str(tmp_path))

    def test_an_unknown_run(self, workspace: Path) -> None:
        with pytest.raises(UsageError, match=r"no bundle found for 'nonesuch' in sqlite:.*RUN is an MLflow run id"):
            find_bundle("nonesuch")

    def test_a_run_without_a_bundle(self, workspace: Path) -> None:
        with open_run("made", "my run", {}) as run:
            pass
        with pytest.raises(UsageError, match=f"run {run.run_id} left no bundle: it did not finish, or is not"):
            find_bundle(run.run_id)
