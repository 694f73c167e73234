"""The plan of the house: who may import whom, who may print, and that help is instant."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mmvae_cli"
FLOORS = [
    {"process"}, {"disk", "compute"}, {"recipe"}, {"store", "drawing"}, {"model", "datasets"}, {"run"},
    {"training", "study", "evaluation", "sampling", "comparison"}, {"export"}, {"cli"}, {"__main__"},
]  # fmt: skip
"""From the ground up: a room imports from the floors below its own, never from a neighbour on its floor."""
WITHOUT_TORCH = {"process", "disk", "recipe", "study", "comparison"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The first name below the package: a folder, or a module at the top."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, *, everywhere: bool = True) -> set[str]:
    """Dotted names of what a file imports; ``everywhere``: inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if everywhere else at_import_time(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def at_import_time(tree: ast.AST):
    """Every node that runs when the module is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_import_time(node)


def rooms_of(path: Path) -> set[str]:
    """The rooms of our own that a file imports from."""
    own = {name.split(".")[1] for name in imports(path) if name.startswith("mmvae_cli.") and name.count(".")}
    return own - {"__version__"}


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_every_file_has_its_room():
    assert {room(path) for path in FILES} - {"__init__"} == set().union(*FLOORS)


@named([path for path in FILES if room(path) != "__init__"])
def test_rooms_import_from_the_floors_below(path):
    own = room(path)
    assert {name for name in rooms_of(path) - {own} if floor(name) >= floor(own)} == set()


@named([path for path in FILES if room(path) in ("model", "recipe")])
def test_model_and_recipe_do_not_print(path):
    assert "console" not in rooms_of(path)


@named([path for path in FILES if path.name != "console.py"])
def test_only_the_console_prints(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "print", f"line {node.lineno}"
            assert called not in ("sys.stdout.write", "sys.stderr.write", "typer.echo"), f"line {node.lineno}"


@named([path for path in FILES if room(path) in WITHOUT_TORCH])
def test_rooms_without_torch(path):
    assert not {name for name in imports(path, everywhere=False) if name.split(".")[0] in ("torch", "torchvision")}


@named([path for path in FILES if room(path) == "datasets"])
def test_datasets_need_torch_inside_functions_only(path):
    assert not {name for name in imports(path, everywhere=False) if name.split(".")[0] in ("torch", "torchvision")}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["mmvae_cli.cli", "mmvae_cli.comparison.compare", "mmvae_cli.datasets.polymnist.build", "mmvae_cli.recipe",
     "mmvae_cli", "mmvae_cli.export.command", "mmvae_cli.training.command", "mmvae_cli.study.launch",
     "mmvae_cli.sampling.command", "mmvae_cli.run.layout", "mmvae_cli.run.prepare", "mmvae_cli.run.result",
     "mmvae_cli.study.here", "mmvae_cli.study.slurm", "mmvae_cli.store"],
)  # fmt: skip
def test_torch_is_not_loaded_by(module):
    loaded = loaded_by(module)
    assert module in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize(("words", "message"), [
    ("train polymnist_mopo", "no recipe 'polymnist_mopo'"), ("train quickstart objective.bta=1", "unknown key"),
    ("train quickstart --data-dir nowhere", "no dataset"), ("train quickstart --seeds 0 lr=1", "unknown key"),
    ("evaluate --ckpt nowhere", "nowhere is no run"), ("evaluate --ckpt nowhere --metrics typo", "--metrics 'typo'"),
    ("sample --ckpt nowhere", "nowhere is no run"),
    ("export nowhere --to latents", "nowhere is no run"), ("export nowhere --to csv", "no run can be read"),
])  # fmt: skip
def test_what_is_mistyped_is_refused_before_torch_is_loaded(words, message, tmp_path):
    code = f"""import sys
from mmvae_cli.cli import app
from mmvae_cli.process.errors import Failure
try:
    app({words.split()!r}, standalone_mode=False)
except Failure as failure:
    print(failure, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert message in done.stdout, done.stderr
    assert done.stdout.endswith("False\n")


def test_the_command_line_loads_nothing_heavy():
    assert not loaded_by("mmvae_cli.cli") & {"numpy", "scipy", "sklearn", "matplotlib", "PIL"}


def test_help_is_instant():
    """The best of three, in the processor's time: other programs on the machine take nothing away from it."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "mmvae_cli", "--help"], capture_output=True, text=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0
        assert all(verb in done.stdout for verb in ("make-dataset", "train", "evaluate", "sample", "compare", "export"))
    assert min(seconds) < 1.0, f"mmvae --help took {min(seconds):.2f} s"
