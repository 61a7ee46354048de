"""Runs whose package has moved since, and records of versions that took keys which are refused today."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest

import biotilt
from biotilt.errors import BiotiltError
from biotilt.folder import RECORD
from biotilt.portable import OURS, PACKAGE, here, portable, sha256_of
from biotilt.provenance import digests, read_record
from biotilt.run import Run, load_model, resume
from biotilt.tasks import TASKS, Task, has_reward_of_task


class Cut(biotilt.Callback):
    def on_round(self, row: Any, history: Any) -> None:
        raise OSError("the power was cut")


KEYS: dict[str, Any] = {"objective": {"name": "ppo", "updates": 1}, "train": {"max_calls": 16, "batch": 8}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted after its first round."""
    folder = tmp_path_factory.mktemp("moved") / "run"
    with pytest.raises(BiotiltError, match="power was cut"):
        biotilt.tune(biotilt.Experiment.for_task("utr", **KEYS), folder, callbacks=[Cut()])
    return folder


def copy(folder: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    return place, json.loads((place / RECORD).read_text())


def write(folder: Path, record: dict[str, Any]) -> None:
    (folder / RECORD).write_text(json.dumps(record))


def elsewhere(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as a version wrote it that took whole paths, in a checkout that is gone."""
    text = json.dumps(record)
    assert f'"{OURS}tasks/utr/generator.safetensors"' in text
    return json.loads(text.replace(f'"{OURS}', '"/gone/src/biotilt/'))


def test_a_record_names_no_place_of_the_package(made: Path) -> None:
    record = json.loads((made / RECORD).read_text())
    assert PACKAGE.as_posix() not in json.dumps({key: record[key] for key in ("config", "sha256")})
    assert set(record["sha256"]) == {f"{OURS}tasks/utr/{n}.safetensors" for n in ("generator", "optimised", "held_out")}
    assert has_reward_of_task(read_record(made).config)


def test_a_run_goes_on_and_loads_where_the_checkout_is_gone(made: Path, tmp_path: Path) -> None:
    folder, record = copy(made, tmp_path)
    write(folder, elsewhere(record))
    shutil.copytree(made, tmp_path / "unmoved")
    here_again = resume(tmp_path / "unmoved", progress=False)
    moved = resume(folder, progress=False)
    assert [row["reward"] for row in moved.rows] == [row["reward"] for row in here_again.rows]
    write(folder, elsewhere(record))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = Run.load(folder)
    assert Path(str(run.experiment.config.reward.path)).is_relative_to(PACKAGE)
    assert load_model(folder).sample(3) == run.sample(3)


def test_another_file_of_the_same_name_is_not_taken_for_it(made: Path, tmp_path: Path) -> None:
    folder, record = copy(made, tmp_path)
    old = elsewhere(record)
    lost = "/gone/src/biotilt/tasks/utr/optimised.safetensors"
    old["sha256"][lost] = "0" * 64
    write(folder, old)
    with pytest.raises(BiotiltError, match=lost):
        resume(folder, progress=False)


def test_a_file_that_the_package_has_changed_is_told(made: Path, tmp_path: Path) -> None:
    folder, record = copy(made, tmp_path)
    record["sha256"][f"{OURS}tasks/utr/generator.safetensors"] = "0" * 64
    write(folder, record)
    with pytest.warns(UserWarning, match=r"other versions of tasks/utr/generator\.safetensors than this biotilt has"):
        resume(folder, progress=False)


def test_checkpoints_of_both_kinds_are_known() -> None:
    experiment = biotilt.Experiment.for_task("utr", **KEYS)
    now, before = digests(experiment)
    assert now != before
    assert digests(biotilt.Experiment.for_task("utr", alpha=0.1, **KEYS))[0] != now


def test_keys_that_mean_nothing_are_left_out_of_an_old_record(made: Path, tmp_path: Path) -> None:
    folder, record = copy(made, tmp_path)
    record["config"]["oracle"] |= {"address": "auto", "time_limit": 5.0}
    record["config"]["lagrangian"] = {"penalty": 2.0}
    record["config"]["held_out"]["options"] = {"window": 3}
    write(folder, record)
    told = "left out: held_out.options, lagrangian, oracle.address, oracle.time_limit$"
    with pytest.warns(UserWarning, match=told):
        config = read_record(folder).config
    assert (config.oracle.address, config.lagrangian) == (None, {})
    with pytest.warns(UserWarning, match=told):
        assert len(resume(folder, progress=False).rows) == 2


def test_a_run_of_another_package_s_task_goes_on_where_that_package_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    biotilt.Experiment.for_task("utr").model.save(before / "generator.safetensors")
    (before / "task.toml").write_text(
        'alpha = 0.5\n[model]\npath = "@TASK@/generator.safetensors"\n[reward]\nkind = "gc"\n'
    )

    def package(place: Path) -> None:
        class Words(Task):
            """designs of a network of one's own."""

            name: ClassVar[str] = "words"
            folder: ClassVar[Path] = place

        monkeypatch.setitem(TASKS._parts, "words", Words)

    package(before)
    with pytest.raises(BiotiltError, match="power was cut"):
        biotilt.tune(biotilt.Experiment.for_task("words", **KEYS), tmp_path / "run", callbacks=[Cut()])
    record = json.loads((tmp_path / "run" / RECORD).read_text())
    assert record["config"]["model"]["path"] == "@task:words/generator.safetensors"
    assert list(record["sha256"]) == ["@task:words/generator.safetensors"]
    before.rename(after)
    package(after)
    assert [row["calls"] for row in resume(tmp_path / "run", progress=False).rows] == [8, 16]
    assert Run.load(tmp_path / "run").experiment.config.model.path == f"{after.as_posix()}/generator.safetensors"
    monkeypatch.delitem(TASKS._parts, "words")
    assert here("@task:words/a") == "@task:words/a"
    assert load_model(tmp_path / "run").sample(1), "the tuned model needs no package"


def test_paths_there_and_back(tmp_path: Path) -> None:
    own = f"{PACKAGE.as_posix()}/tasks/utr/task.toml"
    said = {"a": [own, {"b": own}], "c": f"see {own}", "d": 1, own: None}
    assert portable(said) == {"a": [f"{OURS}tasks/utr/task.toml", {"b": f"{OURS}tasks/utr/task.toml"}]} | {
        "c": f"see {own}", "d": 1, own: None,
    }  # fmt: skip
    assert here(portable(said)) == said
    gone = "/gone/biotilt/tasks/utr/task.toml"
    assert here(gone) == own and here(gone, {gone: sha256_of(Path(own))}) == own
    assert here(gone, {gone: "0"}) == gone and here("/gone/biotilt/tasks/utr/none") == "/gone/biotilt/tasks/utr/none"
    kept = tmp_path / "biotilt/tasks/utr/task.toml"  # somebody's own, in a checkout that is still there
    kept.parent.mkdir(parents=True)
    kept.write_text("alpha = 1")
    assert here(str(kept)) == str(kept) == here(str(kept), {str(kept): sha256_of(kept)})


def test_an_experiment_may_name_a_file_of_the_package_by_its_place(tmp_path: Path) -> None:
    """The default of the task is the same file, and a wrong place is said with the whole path."""
    file = tmp_path / "a.toml"
    file.write_text(f'task = "utr"\n[model]\npath = "{OURS}tasks/utr/generator.safetensors"\n')
    named = biotilt.Experiment.load(file)
    assert named.config == biotilt.Experiment.for_task("utr").config
    file.write_text(f'task = "utr"\n[model]\npath = "{OURS}tasks/utr/missing.safetensors"\n')
    with pytest.raises(BiotiltError, match=f"{PACKAGE.as_posix()}/tasks/utr/missing.safetensors does not exist"):
        biotilt.Experiment.load(file)
