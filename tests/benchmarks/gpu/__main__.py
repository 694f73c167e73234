"""``make gpu``: what there is to learn on a machine with a GPU, in order of value and bounded time, without a network.

    python tests/benchmarks/gpu --out gpu                            # the first call
    python tests/benchmarks/gpu --out gpu --resume gpu               # goes on; also on another machine, by gpu.tar.gz
    python tests/benchmarks/gpu --out /tmp/rehearsal --rehearse      # every item on the CPU, with tiny sizes

Each item is a process of its own with a limit. It writes OUT/ITEM.json at once and again whenever it has found more, so
that nothing is lost when it fails or is cut off. OUT/summary.md and one archive of all of it are rewritten after each.

What has to lie beside the checkout, in .gpu/ (``--beside``); an item whose data are missing is left out:

    data/MNIST/raw/      the four IDX files, packed or not          data/backgrounds/   a picture for each view
    data/svhn/           train_32x32.mat, test_32x32.mat            data/celeba/        the official files
    whl/                 wheels of packages that this Python lacks (pydantic, say; MultiVae to be measured beside)
    commit               the commit of the checkout, where it travels without .git
"""

import argparse
import os
import sys
import zipfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT)]


def unpack_wheels(folder: Path, site: Path) -> None:
    """Make the packages in ``folder`` importable, for this process and those that it starts, unless they are here."""
    for wheel in sorted(folder.glob("*.whl")):
        try:
            metadata.version(wheel.name.split("-")[0])
        except metadata.PackageNotFoundError:
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(site)
    sys.path.append(str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, HERE, HERE.parent, site)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="what is found [gpu]")
    parser.add_argument("--resume", type=Path, help="an earlier OUT or its archive: what is done there is not repeated")
    parser.add_argument("--archive", type=Path, help="[OUT/gpu.tar.gz]")
    parser.add_argument("--beside", type=Path, default=ROOT / ".gpu", help="data and wheels [.gpu]")
    parser.add_argument("--work", type=Path, default=Path("/tmp/mmvae-gpu"), help="data sets and checkpoints")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all [540]")
    parser.add_argument("--only", nargs="*", help="these items")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny")
    parser.add_argument("--item", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    for name in ("out", "work", "beside"):
        setattr(asked, name, getattr(asked, name).resolve())
    asked.archive = (asked.archive or asked.out / "gpu.tar.gz").resolve()
    asked.work.mkdir(parents=True, exist_ok=True)
    unpack_wheels(asked.beside / "whl", asked.work / "site")
    if asked.item:
        import item

        item.run(asked)
    else:
        import programme

        programme.run(asked)


if __name__ == "__main__":
    main()
