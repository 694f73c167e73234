"""Run folders as train and evaluate leave them, with made-up but plausible numbers: what compare is tested on.

Values are a smooth function of method, subset and seed, so that a test can say what must come out.
"""

import random
import struct
import zlib
from pathlib import Path
from typing import Any

from mmvae_cli.comparison.collect import collect
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.measures import subsets
from mmvae_cli.disk.sealed import write_json
from mmvae_cli.recipe import Recipe, validate
from mmvae_cli.run.layout import Run
from mmvae_cli.run.result import CLASSIFIER_VERSION, INCEPTION, EvaluationResult

SKILL = {"mvae": 0.0, "mmvae": 0.1, "mopoe": 0.2, "custom": 0.15}
VIEWS = ["m0", "m1", "m2", "m3", "m4"]
MST = ["mnist", "svhn", "text"]
ATTRIBUTES = ["5_o_Clock_Shadow", "Bald", "Blond_Hair", "Eyeglasses", "Male", "Smiling", "Wearing_Hat", "Young"]
BETA = {"polymnist": 2.5, "mnist-svhn-text": 5.0, "celeba": 2.5}
SETTINGS = {"latent_samples": 500, "seed": 0, "classifiers": f"default, version {CLASSIFIER_VERSION}"}
EPOCHS = {"polymnist": 300, "mnist-svhn-text": 150, "celeba": 200}


def recipe(data: str, modalities: list[str], method: str = "mopoe", **changes: Any) -> Recipe:
    """A complete recipe; ``changes`` are dotted keys with ``__`` for the dot. Every modality is called an image:
    compare reads names, never kinds."""
    content: dict[str, Any] = {
        "name": f"{data.replace('-', '_')}_{method}",
        "dataset": {"name": data},
        "modalities": {name: {"network": "conv", "shape": [3, 28, 28]} for name in modalities},
        "model": {"method": method, "latent_dim": {"polymnist": 512, "celeba": 32}.get(data, 20)},
        "objective": {"beta": BETA.get(data, 1.0)},
        "training": {"epochs": EPOCHS.get(data, 10), "batch_size": 256, "learning_rate": 1e-3},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content[section][name] = value
        else:
            content[section] = value
    return validate(content, "made")


def evaluation(made: Recipe, data: str, **changes: Any) -> dict[str, Any]:
    """evaluation.json of ``made`` at its last epoch, checked against result.py; ``changes`` replace whole fields."""
    names, seed = list(made.modalities), made.training.seed
    noise = random.Random(f"{seed}{made.model.method}{made.objective.beta}")
    top = len(names)
    skill = SKILL.get(made.model.method, SKILL["mopoe"])

    def score(size: int) -> float:
        return min(0.99, 0.5 + skill + 0.2 * size / top + noise.uniform(-0.02, 0.02))

    every = subsets(names)
    attributes = data == "celeba"
    metric = "average_precision" if attributes else "accuracy"
    latent = {s: score(s.count("+") + 1) for s in every}
    conditional = {s: {t: score(s.count("+") + 1) - 0.05 for t in names} for s in every}
    beta = made.objective.beta
    joint = {s: -2000 - 20 * beta + 60 * (s.count("+") + 1) + 100 * skill + noise.uniform(-5, 5) for s in every}
    together = None if attributes else 0.1 + skill + 0.01 * beta + noise.uniform(-0.02, 0.02)
    content: dict[str, Any] = {
        "protocol": "default",
        "run": {"recipe": made.name, "method": made.model.method, "seed": seed, "step": 1000,
                "checkpoint": f"epoch-{made.training.epochs:06d}.safetensors", "epoch": made.training.epochs},
        "dataset": {"name": data, "fingerprint": "0123456789abcdef", "split": "validation" if attributes else "test",
                    "count": 19867 if attributes else 10000},
        "modalities": names,
        "settings": SETTINGS,
        "chance": 0.2 if attributes else 0.1,
        "latent": {"metric": metric, "values": latent,
                   "per_label": {s: _spread(noise, v) for s, v in latent.items()} if attributes else {}},
        "coherence": {"metric": metric, "joint": together,
                      "joint_samples": 10000, "joint_chance": None if attributes else 0.001,
                      "conditional": conditional, "classifiers": {n: 0.95 + m / 100 for m, n in enumerate(names)},
                      "joint_ceiling": None if attributes else 0.92,
                      "classifiers_per_label": dict.fromkeys(names, dict.fromkeys(ATTRIBUTES, 0.97))
                      if attributes else {},
                      "per_label": {s: {t: _spread(noise, v) for t, v in row.items()} for s, row in conditional.items()}
                      if attributes else {}},
        "likelihood": {"importance_samples": 15, "grouping": "per_item", "count": 10000, "joint": joint,
                       "per_modality": {s: dict.fromkeys(names, v / top) for s, v in joint.items()},
                       "standard_errors": dict.fromkeys(joint, 3.5)},
        "reasons": {"coherence.joint": "attributes have no joint coherence"} if attributes else {},
    } | changes  # fmt: skip
    return EvaluationResult.model_validate(content).model_dump(mode="json")


def _spread(noise: random.Random, mean: float) -> dict[str, float]:
    return {name: min(1.0, max(0.0, mean + noise.uniform(-0.3, 0.3))) for name in ATTRIBUTES}


def make_run(
    parent: Path, made: Recipe, data: str, *, state: str = "finished", evaluated: bool = True, figures: bool = False,
    folder: str | None = None, sampler: str = "prior", **changes: Any,
) -> Path:  # fmt: skip
    """One run folder below ``parent``; ``changes`` replace fields of its evaluation."""
    if sampler != "prior":
        changes["settings"] = {"latent_samples": 500, "seed": 0, "sampler": f"{sampler} of 10"}
    beta = made.objective.beta
    run = Run(parent / (folder or f"{made.name}-beta={beta:g}-seed{made.training.seed}"))
    run.prepare(made)
    epochs = made.training.epochs
    run.set_status(state, epoch=epochs if state == "finished" else 3, step=1000, seconds=754.2)
    if evaluated:
        write_json(run.evaluation_path(changes.get("protocol", "default"), sampler), evaluation(made, data, **changes))
    if figures:
        run.figures.mkdir()
        (run.figures / "prior.png").write_bytes(png(120, 90, made.training.seed + len(made.model.method)))
    return run.folder


def study(
    parent: Path, data: str, modalities: list[str], *, seeds: int = 3, betas: tuple[float, ...] = (), **run: Any
) -> Path:
    """MVAE, MMVAE and MoPoE-VAE, some seeds each (and some betas)."""
    for method in ("mvae", "mmvae", "mopoe"):
        for beta in betas or (BETA.get(data, 1.0),):
            for seed in range(seeds):
                made = recipe(data, modalities, method, training__seed=seed, objective__beta=beta)
                make_run(parent, made, data, **run)
    return parent


def collection(*paths: Path) -> Content:
    """What is found under ``paths`` where all runs are on one data set."""
    (only,) = collect(list(paths)).contents
    return only


def png(width: int, height: int, shade: int) -> bytes:
    """A real PNG, stripes in grey, without Pillow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + bytes((x * (shade + 3) + y) % 256 for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def quality(modalities: list[str], conditional: float = 2.0, unconditional: float = 3.0, **changes: Any) -> Any:
    """The quality part of an evaluation: equal distances everywhere."""
    free = dict.fromkeys(modalities, unconditional)
    pairs = {s: {t: conditional for t in modalities if t != s} for s in modalities}
    return {
        "features": "classifier", "pairs": "default", "sampler": "prior",
        "weights": dict.fromkeys(modalities, INCEPTION),
        "feature_size": dict.fromkeys(modalities, 128), "reference_split": "test", "reference_count": 10000,
        "generated": 10000, "joint_samples": 10000, "unconditional": {"frechet": free},
        "conditional": {"frechet": pairs}, "reconstruction": {},
    } | changes  # fmt: skip
