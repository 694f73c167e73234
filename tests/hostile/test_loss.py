"""Nothing is lost: a full disk, a quota, a read-only or vanished folder, two at once, a clock that runs backwards."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import few_steps, listing, mmvae

from mmvae_cli.disk import sealed
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store
from mmvae_cli.store import folder as store

TRAIN = ["train", "tiny.yaml", "--run", "runs/a"]
BUILD = [
    "make-dataset",
    "polymnist",
    "--digits",
    "embedded",
    "--views",
    "1",
    "--limit",
    "60",
    "--quiet",
    "--out",
    "data/tiny",
]
WRITERS = {  # a command, and what it may not spoil
    "train": [*TRAIN, "training.log_every=1"][:4],
    "make-dataset --force": [*BUILD, "--force"],
    "evaluate": ["evaluate", "--ckpt", "runs/a", "--metrics", "coherence", "--force"],
    "sample --force": ["sample", "--ckpt", "runs/a", "--kind", "prior", "--count", "4", "--force"],
    "compare --force": ["compare", "runs/a", "--out", "report", "--force"],
}

SOME = [pytest.param(verb, marks=[] if verb == "train" else [pytest.mark.slow]) for verb in WRITERS]


@pytest.fixture(scope="module")
def drawn(original, tmp_path_factory) -> Path:
    """The original with figures and a report."""
    root = shutil.copytree(original, tmp_path_factory.mktemp("drawn") / "world")
    assert mmvae("sample", "--ckpt", "runs/a", "--kind", "prior", "--count", "2", cwd=root).code == 0
    assert mmvae("compare", "runs/a", "--out", "report", cwd=root).code == 0
    return root


@pytest.fixture
def begun(drawn, world) -> SimpleNamespace:
    """The world after one of two epochs, with figures and a report that are not to be lost."""
    shutil.copytree(drawn, world.root, dirs_exist_ok=True)
    shutil.copytree(world.run, world.root / "whole")
    world.newest.unlink()
    return world


def weights(folder: Path) -> tuple[int, str]:
    found = checkpoint.newest(Run(folder))
    assert found is not None
    return found.position.step, sealed.digest(found.tensors, "")


def essentials(root: Path) -> dict[str, object]:
    """All that a failed command may not change: data, checkpoints, evaluation, figures, reports."""
    kept = (
        "data/tiny",
        "runs/a/checkpoints",
        "runs/a/evaluation.json",
        "runs/a/figures",
        "runs/a/recipe.yaml",
        "report",
    )
    return {name: content for name, content in listing(root).items() if name.startswith(kept)}


def check_nothing_lost(w: SimpleNamespace, before: dict[str, object], verb: str) -> None:
    assert essentials(w.root) == before
    assert not list(w.root.rglob(".*tmp-*")), "half-written files stay behind"
    Store(w.data).array("train", "m0")
    if verb == "train":
        found = mmvae(*TRAIN, cwd=w.root)
        assert found.code == 0, found.err
        assert weights(w.run) == weights(w.root / "whole")


# full disks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(begun, tmp_path) -> Iterator[SimpleNamespace]:
    """The begun world on a tmpfs of 32 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no tmpfs can be mounted here (that takes root); a limit of file size stands in for it")
    try:
        shutil.copytree(begun.root, disk / "world")
        root = disk / "world"
        yield SimpleNamespace(root=root, data=root / "data" / "tiny", run=root / "runs" / "a", filler=disk / "filler")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path: Path, leave: int) -> None:
    """Take all of the disk but ``leave`` bytes."""
    free = os.statvfs(path.parent)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - leave, 4096))


@pytest.mark.parametrize("verb", SOME)
def test_a_full_disk_costs_nothing_that_was_there(verb, small_disk, outcomes):
    w = small_disk
    before = essentials(w.root)
    fill(w.filler, 16 << 10 if verb == "train" else 0)  # enough to begin, too little for a checkpoint
    found = mmvae(*WRITERS[verb], cwd=w.root, first=few_steps)
    assert found.code == 1, f"exit {found.code}: {found.err}"
    assert "No space left" in found.complaint
    assert "hint:" in found.err
    w.filler.unlink()
    check_nothing_lost(w, before, verb)
    outcomes.add("a full disk (tmpfs)", "one line, exit 1, nothing lost")


@pytest.mark.parametrize("verb", SOME)
def test_a_quota_costs_nothing_that_was_there(verb, begun, outcomes):
    before = essentials(begun.root)
    found = mmvae(*WRITERS[verb], cwd=begun.root, largest_file=6000 if verb == "train" else 100, first=few_steps)
    assert found.code == 1, f"exit {found.code}: {found.err}"
    assert "cannot write" in found.complaint
    assert "hint:" in found.err
    check_nothing_lost(begun, before, verb)
    outcomes.add("a quota (largest size of a file)", "one line, exit 1, nothing lost")


@pytest.mark.parametrize("verb", SOME)
def test_a_read_only_folder_is_left_as_it_was(verb, begun, outcomes):
    before = essentials(begun.root)
    folders = [begun.root, *(path for path in begun.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        found = mmvae(*WRITERS[verb], cwd=begun.root, privileged=False, first=few_steps)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert found.code == 1, f"exit {found.code}: {found.err}"
    assert "cannot write" in found.complaint
    assert "hint:" in found.err
    check_nothing_lost(begun, before, verb)
    outcomes.add("a read-only folder", "one line, exit 1, nothing lost")


# folders that vanish --------------------------------------------------------------------------------------------------


def before_call(module: str, name: str, action: Callable[[], None]) -> Callable[[], None]:
    """For ``first``: ``action`` happens just before ``module.name`` is called."""

    def patch() -> None:
        import importlib

        home = importlib.import_module(module)
        original = getattr(home, name)

        def wrapped(*arguments, **options):
            action()
            return original(*arguments, **options)

        setattr(home, name, wrapped)

    return patch


VANISH = {
    "the run, before its checkpoint": (TRAIN, "mmvae_cli.run.checkpoint", "save", "runs/a", 1),
    "the run, before a line of metrics": (TRAIN, "mmvae_cli.training.loop", "_note", "runs/a", 1),
    "the data, while training": (TRAIN, "mmvae_cli.run.checkpoint", "save", "data/tiny", 0),
    "the run, while evaluating": (
        ["evaluate", "--ckpt", "runs/a", "--metrics", "latent"], "mmvae_cli.evaluation.latent", "measure", "runs/a", 1),
    "the figures, while sampling": (
        [*WRITERS["sample --force"], "--out", "f"], "mmvae_cli.drawing.grids", "_painted", "f", 1),
}  # fmt: skip


@pytest.mark.parametrize(
    "what", [*list(VANISH)[:1], *(pytest.param(w, marks=pytest.mark.slow) for w in list(VANISH)[1:])]
)
def test_a_folder_removed_while_running(what, begun, outcomes):
    command, module, name, folder, code = VANISH[what]
    gone = before_call(module, name, lambda: shutil.rmtree(begun.root / folder, ignore_errors=True))
    before = {key: value for key, value in essentials(begun.root).items() if not key.startswith(folder)}
    found = mmvae(*command, cwd=begun.root, first=gone)
    assert found.code == code, f"exit {found.code}: {found.err}"
    if code:
        assert "hint:" in found.err
        assert "cannot" in found.complaint
    else:
        assert weights(begun.run) == weights(begun.root / "whole")
        return outcomes.add("a folder removed while running", "what was read stays: the same weights")
    assert {key: value for key, value in essentials(begun.root).items() if not key.startswith(folder)} == before
    return outcomes.add("a folder removed while running", "one line, exit 1, nothing else touched")


@pytest.mark.parametrize("size", ["small", "large"])
def test_data_cut_while_training(size, begun, outcomes):
    """What is held in memory is not touched; what is read by rows ends with one line, never with a signal."""
    images = sorted((begun.root / "data" / "tiny" / "train").glob("m*.npy"))
    assert images

    def first() -> None:
        if size == "large":
            store.IN_MEMORY = 0
        before_call("mmvae_cli.training.engine", "permutation", lambda: [os.truncate(path, 200) for path in images])()

    begun_weights = weights(begun.run)
    found = mmvae(*TRAIN, cwd=begun.root, first=first)
    if size == "small":
        assert found.code == 0, found.err
        assert weights(begun.run) == weights(begun.root / "whole")
        return outcomes.add("data cut while training", "what was read stays: the same weights")
    assert found.code == 3, f"exit {found.code}: {found.err}"
    assert "changed while it was in use" in found.complaint
    assert weights(begun.run) == begun_weights
    return outcomes.add("data cut while training", "too large for memory: one line, exit 3, the checkpoint as it was")


# two at once ---------------------------------------------------------------------------------------------------------


def test_a_second_process_keeps_out(begun, outcomes):
    slowly = before_call("mmvae_cli.run.checkpoint", "save", lambda: time.sleep(4))
    results = []
    first = threading.Thread(target=lambda: results.append(mmvae(*TRAIN, cwd=begun.root, first=slowly)))
    first.start()
    while not (begun.run / "lock").exists():
        time.sleep(0.01)
    second = mmvae(*TRAIN, cwd=begun.root)
    first.join()
    assert (second.code, "in use by process" in second.complaint) == (2, True)
    assert results[0].code == 0
    assert weights(begun.run) == weights(begun.root / "whole")
    outcomes.add("two processes at once: train", "the second is refused, exit 2")


def test_a_dataset_finished_by_another_process_meanwhile_stays(begun, outcomes):
    """Both began without the folder; the quicker one's is there when the other is done."""
    target = begun.root / "data" / "new"
    other = before_call("mmvae_cli.datasets.placing", "finish", lambda: shutil.copytree(begun.data, target))
    found = mmvae(*BUILD[:-1], "data/new", cwd=begun.root, first=other)
    assert (found.code, "exists" in found.complaint) == (2, True)
    assert listing(target) == listing(begun.data)
    outcomes.add("two processes at once: make-dataset", "the one there stays, exit 2")


def test_two_evaluations_at_once_leave_one_whole_result(begun, outcomes):
    command = ["evaluate", "--ckpt", "runs/a", "--metrics", "latent"]
    results: list[int] = []
    both = [threading.Thread(target=lambda: results.append(mmvae(*command, cwd=begun.root).code)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert results == [0, 0]
    alone = (begun.run / "evaluation.json").read_bytes()
    assert mmvae(*command, cwd=begun.root).code == 0
    assert (begun.run / "evaluation.json").read_bytes() == alone
    outcomes.add("two processes at once: evaluate", "one whole result")


def test_a_clock_that_runs_backwards_changes_nothing(begun, outcomes):
    """Time goes back an hour at every look, and the older checkpoint looks newer."""

    def backwards() -> None:
        now = [2e9]

        def earlier() -> float:
            now[0] -= 3600
            return now[0]

        time.time = earlier

    checkpoint.prune(Run(begun.run), 2, 3)
    found = mmvae(*TRAIN, cwd=begun.root, first=backwards)
    assert found.code == 0, found.err
    assert weights(begun.run) == weights(begun.root / "whole")
    for path, moment in zip(sorted((begun.run / "checkpoints").iterdir()), (2e9, 1e9), strict=True):
        os.utime(path, (moment, moment))
    assert weights(begun.run)[0] == 6
    outcomes.add("a clock that runs backwards", "the same weights; newest is by step", 2)


# --force -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["make-dataset --force", "sample --force", "compare --force"])
def test_what_exists_is_replaced_with_force_only_and_only_when_the_new_one_is_complete(verb, begun, outcomes):
    before, command = essentials(begun.root), WRITERS[verb]
    found = mmvae(*command[:-1], cwd=begun.root)
    assert (found.code, "exists" in found.complaint, "--force" in found.err) == (2, True, True)
    assert essentials(begun.root) == before
    stop = before_call("mmvae_cli.drawing.grids" if "compare" not in verb else "mmvae_cli.comparison.plots",
                       "draw" if "compare" in verb else "_painted", _raise)  # fmt: skip
    found = mmvae(*command, cwd=begun.root, first=stop)
    assert found.code == 1
    assert "stopped in the middle" in found.complaint
    assert essentials(begun.root) == before
    (begun.data / "dataset.json").touch()
    found = mmvae(*command, cwd=begun.root)
    assert found.code == 0, found.err
    outcomes.add("--force", "only with it, and only when the new one is complete", 3)


def _raise() -> None:
    from mmvae_cli.process.errors import Failure

    raise Failure("stopped in the middle")


def test_a_run_of_another_recipe_is_never_overwritten(begun, outcomes):
    before = listing(begun.root)
    found = mmvae(*TRAIN, "objective.beta=3", cwd=begun.root)
    assert (found.code, "objective.beta: 1.5 -> 3" in found.complaint) == (2, True)
    assert listing(begun.root) == before
    outcomes.add("another recipe into a run", "refused, exit 2")
