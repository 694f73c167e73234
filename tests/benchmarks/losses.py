"""The losses of the first steps of every shipped recipe, to the last bit: a change that should not alter the
mathematics shows the same file before and after.

    python tests/benchmarks/losses.py --out before.json --mmvae OTHER/.venv/bin/mmvae
    python tests/benchmarks/losses.py --out after.json --against before.json

Data are random and made anew from a seed. Every recipe is trained by the command itself for 20 steps of its own batch
(faces: 3 steps of 16 rows), on the CPU with one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mmvae_cli import recipe as recipes
from mmvae_cli import store

STEPS, FACE_STEPS, FACE_BATCH = 20, 3, 16
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"\\/|_@#$%^&*~`+-=<>()[]{} \n"
SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def random_store(recipe: recipes.Recipe, items: int, folder: Path, tested: int = 10) -> Path:
    """Coarse random pictures, random words and labels as vectors for every modality of ``recipe``; rows of text are
    placed at random."""
    rng, modalities = np.random.default_rng(0), {}
    splits = {"train": items, "test": tested}
    for name, spec in recipe.modalities.items():
        text = spec.kind == "text"
        words = {"alphabet": CHARACTERS, "placement": "random", "fill": " "} if text else {}
        modalities[name] = store.ModalityInfo(kind=spec.kind, shape=spec.shape, **words)
        for split, count in splits.items():
            dtype = np.float32 if spec.kind == "vector" else np.uint8
            rows = store.new_array(folder, f"{split}/{name}.npy", (count, *spec.shape), dtype)
            if spec.kind == "vector":
                rows[:] = np.eye(*spec.shape)[np.arange(count) % spec.shape[0]]
            elif text:
                rows[:] = CHARACTERS.index(" ")
                rows[:, :4] = rng.integers(0, 26, (count, 4))
            else:
                channels, height, width = spec.shape
                coarse = rng.integers(0, 256, (count, channels, -(-height // 4), -(-width // 4)), dtype=np.uint8)
                rows[:] = coarse.repeat(4, 2).repeat(4, 3)[:, :, :height, :width]
    for split, count in splits.items():
        store.new_array(folder, f"{split}/labels.npy", (count,), np.int64)[:] = np.arange(count) % 10
    store.finish(folder, store.StoreInfo(
        name="random", modalities=modalities, splits={name: store.SplitInfo(count=n) for name, n in splits.items()},
        labels=store.LabelInfo(kind="class", names=tuple("0123456789")),
    ))  # fmt: skip
    return folder


def losses(name: str, command: str, folder: Path) -> list[float]:
    """What metrics.jsonl says of the first steps of a shipped recipe, one number a step."""
    recipe = recipes.load(name)
    faces = any(spec.network == "face64" for spec in recipe.modalities.values())
    batch, steps = (FACE_BATCH, FACE_STEPS) if faces else (recipe.training.batch_size, STEPS)
    data = random_store(recipe, batch * steps, folder / f"{name}-data")
    run = folder / f"{name}-run"
    subprocess.run(
        [command, "train", name, f"dataset.name={data}", "training.epochs=1", f"training.batch_size={batch}",
         "training.log_every=1", "--run", run, "--device", "cpu", "--quiet"],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder,
    )  # fmt: skip
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=SHIPPED, help="shipped recipes [all]")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="an earlier file; exit 1 where a loss differs in any bit")
    parser.add_argument("--mmvae", default=str(Path(sys.executable).with_name("mmvae")), help="the command to run")
    asked = parser.parse_args()
    known = json.loads(asked.against.read_text()) if asked.against else {}
    found, differ = {}, []
    for name in asked.recipes or SHIPPED:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = losses(name, asked.mmvae, Path(folder))
        asked.out.write_text(json.dumps(found, indent=1))
        said = f"{len(found[name])} steps, {found[name][0]:.6f} .. {found[name][-1]:.6f}"
        if name in known:
            same = found[name] == known[name]
            said += ", equal" if same else f", NOT equal: was {known[name][0]:.6f} .. {known[name][-1]:.6f}"
            differ += [] if same else [name]
        print(f"{name:<24} {said}", flush=True)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
