"""The training loop, top to bottom."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmvae_cli.compute import devices, ranks
from mmvae_cli.compute.ranks import ProcessGroup
from mmvae_cli.compute.seeds import derive
from mmvae_cli.disk.lock import Lock
from mmvae_cli.model.objective import Objective
from mmvae_cli.model.terms import Terms
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, Diverged, Failure, Stopped, UsageProblem, of_the_machine
from mmvae_cli.recipe import Recipe
from mmvae_cli.run import checkpoint, prepare
from mmvae_cli.run.checkpoint import Position
from mmvae_cli.run.code import Code
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store, batches
from mmvae_cli.store.fitting import check_store
from mmvae_cli.store.presence import Presence, of_training
from mmvae_cli.training import estimate
from mmvae_cli.training.engine import Engine, way_of
from mmvae_cli.training.pace import Pace, Saving
from mmvae_cli.training.step import StepLoss, make_optimizer, normalises


@dataclass(frozen=True)
class Request:
    """Where and how to train; what to train is in the recipe."""

    run: Path
    dataset: Path
    device: str = "auto"
    resume: str = "auto"  # auto | never | must
    verify: bool = True
    code: Code | None = None


def train(recipe: Recipe, request: Request) -> Path:
    """Train ``recipe`` into the run folder, going on where an earlier process stopped; returns the folder.

    Raises UsageProblem (another recipe's run, nothing to resume), DataProblem (dataset), Diverged (a non-finite term),
    Stopped (a signal came; a checkpoint was written), Failure (disk).
    """
    device = devices.pick_device(request.device)
    store = Store(request.dataset, verify=request.verify)
    check_store(store, recipe)
    prepare.steps_per_epoch(recipe, store)
    store.check("train", recipe.modalities)  # damage is seen before anything is written
    outline = estimate.without_weights(recipe)
    estimate.refuse_too_large(recipe, outline, device)
    _check_rows(recipe, outline, ProcessGroup.of_environment())
    run = Run(request.run)
    if ProcessGroup.of_environment().rank:  # the first process alone holds the lock and writes
        with ranks.process_group(device, "train") as group:
            _train_locked(_Job(recipe, request, run, store, device, group, None))
        return run.folder
    run.prepare(recipe)
    with run.lock() as lock:
        if request.code is not None:
            run.keep_code(request.code.content, str(request.code.path))
        try:
            with ranks.process_group(device, "train") as group:
                _train_locked(_Job(recipe, request, run, store, device, group, lock))
        except Exception as error:
            _note_failure(run, error)
            if isinstance(error, Diverged):
                error.hint += f"; {_what_is_left(run)}"
            raise
    return run.folder


@dataclass(frozen=True)
class _Job:
    """What one of the processes of ``group`` trains, and where; the ``lock`` is the first one's."""

    recipe: Recipe
    request: Request
    run: Run
    store: Store
    device: torch.device
    group: ProcessGroup
    lock: Lock | None

    def note(self, state: str, position: Position, total: int) -> None:
        """Say in status.json how far it is."""
        epochs = self.recipe.training.epochs
        self.run.set_status(state, **vars(position), total_steps=total, epochs=epochs)


def _train_locked(job: _Job) -> None:
    devices.use_threads(job.device, job.run.environment() if job.run.checkpoint_paths() else {}, choose=True)
    devices.set_precision(job.recipe.training.precision)
    devices.warn_of_slow_bf16(job.recipe.training.precision, job.device)
    epochs = f"{job.recipe.training.epochs} epoch{'s' * (job.recipe.training.epochs != 1)}"
    training = _prepared(job)
    if training is None:
        console.say(f"{job.run.folder} is finished ({epochs}); nothing to do")
        return
    training.take_all_steps()
    console.say(f"trained {epochs} in {console.duration(training.position(training.total).seconds)}")


def _prepared(job: _Job) -> "_Training | None":
    """Model, optimiser and engine as they are at the step where the run goes on; None where it has all its steps."""
    recipe, run, store, device, group = job.recipe, job.run, job.store, job.device, job.group
    settings, seed = recipe.training, recipe.training.seed
    torch.manual_seed(derive(seed, "init"))
    model = MultimodalVAE(recipe).to(device)
    step = StepLoss(model, Objective.of(recipe), settings.precision)
    optimizer = make_optimizer(model, settings.learning_rate)
    begin, began_as = _resume(job, model, optimizer)
    per_epoch = prepare.steps_per_epoch(recipe, store)
    total = settings.epochs * per_epoch
    if begin.step:
        run.check_data(job.request.dataset, store.fingerprint)
    if begin.step >= total:
        if group.rank == 0 and begin.step == total and run.status().get("state") != "finished":
            job.note("finished", begin, total)  # killed between the last checkpoint and its note
        return None
    presence = of_training(store, recipe)
    refuse_processes(presence, group)
    data = batches.Split(store, "train", model.names, device, seed, settings.data_on, presence)
    if group.rank == 0:
        _open_run(job, begin, total, began_as)
    left, complete = total - begin.step, data.present is None
    way = way_of(device, settings, group, left, on_device=data.on_device, complete=complete)
    engine = Engine(step, optimizer, data, settings, group, way, start=begin.step, total=total)
    return _Training(job, model, optimizer, step.terms, engine, begin, began_as, per_epoch, total)


@dataclass
class _Training:
    """A run that is ready to take its steps from ``begin`` to ``total``, so many of them ``per_epoch``."""

    job: _Job
    model: MultimodalVAE
    optimizer: torch.optim.Optimizer
    terms: Terms
    engine: Engine
    begin: Position
    began_as: str | None
    per_epoch: int
    total: int

    def __post_init__(self) -> None:
        self._saving, self._started = Saving(), time.monotonic()

    def position(self, step: int) -> Position:
        """After so many steps, now."""
        return Position(step, step // self.per_epoch, self.begin.seconds + time.monotonic() - self._started)

    def take_all_steps(self) -> None:
        """Raises Diverged, Stopped, and what the steps themselves raise."""
        job, settings, pace = self.job, self.job.recipe.training, Pace(self.job.device)
        # asking all processes makes a GPU wait
        asked_every = settings.log_every if job.group.size > 1 and job.device.type == "cuda" else 1
        with (
            console.progress(f"train {job.recipe.name}", self.total, "steps") as shown, self.engine.ordered(),
            signals.interrupts_wait(),
        ):  # fmt: skip
            shown.start_at(self.begin.step)
            for at in range(self.begin.step, self.total):
                with pace:
                    self._take(at)
                done, note = at + 1, ""
                stop = done % asked_every == 0 and _any_rank_stops(job.group, job.device)
                ends_line = _ends_line(done, settings.log_every, self.per_epoch) and self.engine.meter.is_due()
                if stop or done % self.per_epoch == 0 or ends_line:
                    note = self._log(done)
                shown.advance(1, note)
                self._save_if_due(done, stop=stop)
                if stop and done < self.total:
                    signals.leave_if_requested(f"checkpoint written at step {done} of {self.total} in {job.run.folder}")
                    raise Stopped(f"another process was stopped: checkpoint written at step {done} of {self.total}")

    def _take(self, at: int) -> None:
        try:
            self.engine.take(at)
        except RuntimeError:
            if self.job.group.size == 1:  # a signal to all processes of a job ends the compiler's helpers, too
                kept = f"{self.job.run.folder} keeps what was written before"
                signals.leave_if_requested(f"step {at + 1} was given up, {kept}")
            raise

    def _log(self, done: int) -> str:
        """Write the means since the last line; returns what progress says of them."""
        settings, at = self.job.recipe.training, done - 1
        record = self.engine.meter.flush(done, at // self.per_epoch, settings.batch_size, self.engine.rate(at))
        if self.job.group.rank == 0:
            memory, seconds = devices.memory_mib(self.job.device), self.position(done).seconds
            self.job.run.log([record | {"memory_mib": round(memory), "seconds": round(seconds, 3)}])
        return _note(record, self.terms)

    def _save_if_due(self, done: int, *, stop: bool) -> None:
        job, settings = self.job, self.job.recipe.training
        state = "finished" if done == self.total else "stopped" if stop else "running"
        wanted = done % (self.per_epoch * settings.checkpoint_every) == 0 and self._saving.is_due()
        if job.lock is None or not (wanted or state != "running"):
            return
        job.lock.check()
        with self._saving:
            path = job.run.checkpoint_path(done)
            checkpoint.save(path, self.model, self.optimizer, self.position(done), self.began_as)
        checkpoint.prune(job.run, settings.keep_checkpoints, done)
        job.note(state, self.position(done), self.total)


def _ends_line(done: int, every: int, per_epoch: int) -> bool:
    """Whether a line of metrics.jsonl ends inside an epoch after so many steps: after every ``every`` of the epoch, but
    not where less than half as many are left of it. So no line is a mean over a few steps, unless the epoch is."""
    inside = done % per_epoch
    return inside > 0 and inside % every == 0 and 2 * (per_epoch - inside) >= every


def refuse_processes(presence: Presence | None, group: ProcessGroup) -> None:
    """Raise UsageProblem where several processes would share rows that differ in what they have."""
    if group.size > 1 and presence is not None and presence.needed is not None:
        raise UsageProblem(
            f"{group.size} processes cannot share incomplete data: items of a batch differ in their modalities",
            "train incomplete data in one process",
        )


def _note(record: dict[str, Any], terms: Terms) -> str:
    """What the line of progress says of the joint posterior: its likelihoods and its KLs, each summed. The loss weighs
    them (beta, likelihood weights) and has more terms (unimodal ones), so that it is not their difference."""
    shares = {name: term.share for name, term in terms.items() if term.role == "log-likelihood"}  # or by component
    likelihood = sum(_of_all_rows(record, name) * (share if isinstance(share, float) else 1)
                     for name, share in shares.items())  # fmt: skip
    return (f"loss {record['loss']:,.1f} (weighted), log-likelihood {likelihood:,.1f}, "
            f"KL {likelihood - record['elbo']:,.2f}, {record['items_per_second']:,.0f} items/s")  # fmt: skip


def _of_all_rows(record: dict[str, Any], name: str) -> float:
    """A likelihood as a mean over all rows: those without the modality count 0."""
    present: float = record.get(f"present.{name.rpartition('log_likelihood.')[2]}", 1.0)
    return present * record[name] if present else 0.0


def _check_rows(recipe: Recipe, model: MultimodalVAE, group: ProcessGroup) -> None:
    """Every process needs a row, and batch normalisation two of them. Raises UsageProblem."""
    least, batch_size = 2 if normalises(model) else 1, recipe.training.batch_size
    if batch_size >= least * group.size:
        return
    if group.size == 1:
        raise UsageProblem(
            f"training.batch_size {batch_size} is too small: these networks normalise over a batch",
            f"use training.batch_size={least} or more",
        )
    raise UsageProblem(
        f"training.batch_size {batch_size} is too small for {group.size} processes: {least} rows each at least",
        "start fewer processes; the global batch is the recipe's",
    )


def _what_is_left(run: Run) -> str:
    paths = run.checkpoint_paths()
    return f"the last checkpoint, {paths[0]}, is from before" if paths else "no checkpoint had been written yet"


def _note_failure(run: Run, failure: Exception) -> None:
    """Say in status.json how a begun run ended; a stop by signal has said so itself."""
    if not isinstance(failure, Stopped) and run.status_path.is_file():
        with suppress(Failure):  # of the disk, say: the first failure is the one to report
            known = {key: value for key, value in run.status().items() if key not in ("state", "reason")}
            if run.status().get("state") == "running":  # a run that was not even opened stays what it was
                state = "diverged" if isinstance(failure, Diverged) else "failed"
                run.set_status(state, **known, reason=str(of_the_machine(failure) or failure))


def _resume(job: _Job, model: MultimodalVAE, optimizer: torch.optim.Optimizer) -> tuple[Position, str]:
    """Where the newest checkpoint leaves off, and the fingerprint of the recipe that the run was begun by."""
    run, resume, beginning = job.run, job.request.resume, (Position(0, 0), job.recipe.fingerprint)
    if resume == "never":
        if run.checkpoint_paths():
            raise UsageProblem(f"{run.folder} has checkpoints", "remove the folder, or choose another with --run")
        return beginning
    newest = checkpoint.newest(run)
    steps = ranks.gather(job.group, newest.position.step if newest else 0)
    if len(set(steps)) > 1:
        raise Failure(
            f"the processes see different checkpoints in {run.folder}: steps {', '.join(map(str, steps))}",
            "the shared file system is late: run the same command again",
        )
    if newest is None:
        if resume == "must":
            raise DataProblem(f"--resume must: {run.folder} has no checkpoint", "use --resume auto to start it")
        if reached := run.status().get("step"):
            raise DataProblem(
                f"{run.checkpoints} is empty, but {run.folder} was trained to step {reached}",
                "restore a checkpoint, or remove the folder to start over",
            )
        return beginning
    newest.load_model(model)
    newest.load_optimizer(optimizer, model)
    console.say(f"going on from {newest.path}")
    return newest.position, newest.began_as or run.began_as() or job.recipe.fingerprint


def _open_run(job: _Job, position: Position, total: int, began_as: str) -> None:
    recipe, run, store, device, group = job.recipe, job.run, job.store, job.device, job.group
    facts = {
        "recipe": {"name": recipe.name, "fingerprint": recipe.fingerprint, "began_as": began_as},
        "dataset": {"folder": str(job.request.dataset), "fingerprint": store.fingerprint}, "processes": group.size,
    }  # fmt: skip
    if (code := job.request.code) is not None:
        facts["code"] = {"file": str(code.path), "sha256": code.sha256}
    known = run.environment() if position.step else {}
    run.forget_after(position.step)
    run.lengthen(recipe)
    run.set_environment(devices.environment(device, **facts, earlier=_earlier(known, position)))
    job.note("running", position, total)
    stand_in = f" (stand-in: {store.info.stand_in})" if store.info.stand_in else ""
    console.say(f"{recipe.name} on {store.name}{stand_in}, {device}, into {run.folder}: steps {position.step}..{total}")
    if group.size > 1:
        console.say(f"{group.size} processes share each batch of {recipe.training.batch_size}")


def _earlier(known: dict[str, Any], position: Position) -> list[Any]:
    """What environment.json said of the earlier processes of this run, the last 50 of them: results can depend on
    all."""
    before = known.get("earlier")
    kept = {key: known.get(key) for key in ("mmvae", "commit", "host", "device", "gpu", "threads", "processes")}
    stretch = [{"up_to_step": position.step, **kept}] if known else []
    return [*(before if isinstance(before, list) else []), *stretch][-50:]


def _any_rank_stops(group: ProcessGroup, device: torch.device) -> bool:
    if group.size == 1:
        return signals.requested()
    flag = torch.tensor(float(signals.requested()), device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
