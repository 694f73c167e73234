"""Draws the pictures of README and docs into docs/pictures: ``make pictures``, after ``make demo`` and, for the faces,
``mmvae train celeba_quick``."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "mmvae_cli"
HOLDS = {
    "cli": "the verbs", "training": "loop and step", "study": "many runs", "evaluation": "what is measured",
    "sampling": "what is drawn", "comparison": "tables and report", "export": "ways out", "run": "the run folder",
    "model": "experts to loss", "datasets": "make-dataset", "store": "the dataset folder", "drawing": "pictures",
    "recipe": "keys and methods", "disk": "files", "compute": "device, recorded step", "process": "errors, signals",
}  # fmt: skip
FACES = (
    "smiling, wearing lipstick",
    "male",
    "male, eyeglasses",
    "blond hair, smiling",
    "bald, male",
    "black hair, bangs",
)
WIDTH, HEIGHT, BOX = 960, 92, (142, 50)


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports from."""
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    found: dict[str, set[str]] = {name: set() for name in sorted(rooms) if not name.startswith("__")}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module else []
            used = {name.split(".")[1] for name in names if name.startswith("mmvae_cli.")}
            found.get(room, set()).update(used & set(found) - {room})
    return found


def shortest(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Arrows that no way over another room implies."""

    def reached(room: str) -> set[str]:
        return arrows[room].union(*map(reached, arrows[room]))

    return [
        (room, used)
        for room in arrows
        for used in sorted(arrows[room])
        if not any(used in reached(other) for other in arrows[room] - {used})
    ]


def house() -> str:
    """The rooms of the package as SVG: an arrow leads from a room to one that it imports from."""
    arrows = imports()

    def level(room: str) -> int:
        return 1 + max((level(used) for used in arrows[room]), default=-1)

    floors = [[name for name in arrows if level(name) == height] for height in range(level("cli"), -1, -1)]
    place = {
        name: (WIDTH * (i + 0.5) / len(floor), 20 + HEIGHT * row)
        for row, floor in enumerate(floors)
        for i, name in enumerate(floor)
    }
    boxes = "".join(
        f'<rect x="{x - BOX[0] / 2:.0f}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>'
        f'<text x="{x:.0f}" y="{y + 22}" class="name">{name}</text>'
        f'<text x="{x:.0f}" y="{y + 41}">{HOLDS.get(name, "")}</text>'
        for name, (x, y) in place.items()
    )
    lines = "".join(
        f'<path d="M{x:.0f} {y + BOX[1]} C{x:.0f} {y + BOX[1] + 30} {to:.0f} {end - 34} {to:.0f} {end - 4}"/>'
        for (x, y), (to, end) in ((place[room], place[used]) for room, used in shortest(arrows))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT * len(floors)}" role="img">'
        "<title>The rooms of the package: arrows lead from a room to the rooms that it imports from</title>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" style="fill:#44546a;stroke:none"/></marker></defs>'
        "<style>rect{fill:#eef3fa;stroke:#44546a}text{font:13px sans-serif;text-anchor:middle;fill:#333}"
        ".name{font-size:16px;font-weight:bold;fill:#111}path{fill:none;stroke:#44546a;marker-end:url(#tip)}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT * len(floors)}" style="fill:#fff;stroke:none"/>{lines}{boxes}</svg>\n'
    )


def of_the_demo(runs: Path, into: Path) -> None:
    """What ``mmvae sample`` and ``mmvae compare`` draw of the demo's runs, and the report as a browser shows it."""
    report = HERE.parent / "build" / "pictures"
    command = [sys.executable, "-m", "mmvae_cli", "compare", str(runs), "--format", "html", "--out", str(report)]
    subprocess.run([*command, "--force", "--quiet"], check=True)
    chosen = {
        "curves.png": report / "comparison-by-number-of-inputs.png",
        "same-digits.png": report / "comparison-same-items-m0_given_m1.png",
        "latent.png": runs / "quickstart-seed0" / "figures" / "latent.png",
        "prior.png": runs / "quickstart-seed0" / "figures" / "prior.png",
    }
    for name, path in chosen.items():
        shutil.copyfile(path, into / name)
    if browser := shutil.which("chromium") or shutil.which("google-chrome"):
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1250"]
        picture = f"--screenshot={into / 'report.png'}"
        subprocess.run([*command, picture, (report / "comparison.html").as_uri()], check=True, capture_output=True)


def of_faces(run: Path, into: Path) -> None:
    """Faces that a run on CelebA draws from attributes."""
    texts = [word for attributes in FACES for word in ("--text", attributes)]
    made = HERE.parent / "build" / "faces"
    shutil.rmtree(made, ignore_errors=True)
    command = [sys.executable, "-m", "mmvae_cli", "sample", "--ckpt", str(run), *texts]
    subprocess.run([*command, "--out", str(made), "--force", "--quiet"], check=True)
    (drawn,) = made.glob("*.png")
    with Image.open(drawn) as whole:
        whole.crop((0, 0, whole.width, 870)).quantize(128).save(into / "faces.png")  # the head and four of ten rows


def of_kept_results(into: Path) -> None:
    """Figures of the runs whose evaluations lie in docs/results/."""
    build, kept = HERE.parent / "build", HERE / "results"
    for runs, chosen in (
        (kept / "methods", {"by-number-of-inputs": "methods.png", "tradeoffs": "tradeoffs.png"}),
        (
            kept / "polymnist_methods",
            {"by-number-of-inputs": "methods-polymnist.png", "tradeoffs": "tradeoffs-polymnist.png"},
        ),
        (kept / "mst_beta", {"joint-tradeoff": "beta.png"}),
        (kept / "polymnist", {"by-number-of-inputs": "quick.png"}),
        (kept / "polymnist_paper", {"by-number-of-inputs": "figure3.png"}),
    ):
        made = build / runs.name
        command = [sys.executable, "-m", "mmvae_cli", "compare", str(runs), "--out", str(made), "--force", "--quiet"]
        subprocess.run([*command, "--any-epoch"], check=True)
        for figure, name in chosen.items():
            shutil.copyfile(made / f"comparison-{figure}.png", into / name)


if __name__ == "__main__":
    pictures = HERE / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "house.svg").write_text(house(), encoding="utf-8")
    of_kept_results(pictures)
    for given in map(Path, sys.argv[1:]):
        (of_faces if (given / "recipe.yaml").exists() else of_the_demo)(given, pictures)
