"""Writes the pages of docs/ that are made from the code: ``make docs``."""

import re
from pathlib import Path

from typer.testing import CliRunner

from mmvae_cli.cli import app
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import listing, shipped, validate
from mmvae_cli.recipe.methods import METHODS

HERE = Path(__file__).parent
COMMANDS = (
    "", "make-dataset", "make-dataset polymnist", "make-dataset mnist-svhn-text", "make-dataset mnist",
    "make-dataset celeba",
    "make-dataset table", "make-dataset arrays", "make-dataset anndata",
    "train", "evaluate", "sample", "compare", "export",
)  # fmt: skip
MADE = "<!-- made by `make docs` from the code: change the code instead -->"


def command_line() -> str:
    """The help of every command, 100 columns wide."""
    shown = [f"## mmvae {command}".rstrip() + f"\n\n```text\n{_help(command)}\n```" for command in COMMANDS]
    about = "The `--help` of every command. `mmvae train --list` lists all recipes, methods, networks and keys."
    return "\n\n".join(["# The command line", MADE, about, *shown]) + "\n"


def _help(command: str) -> str:
    environment = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "MMVAE_DATA_DIR": None, "MMVAE_DEBUG": None}
    run = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="mmvae", env=environment, terminal_width=100)
    return "\n".join(line.rstrip() for line in run.output.strip().splitlines())


def recipes() -> str:
    """Every shipped recipe, network, likelihood and key."""
    about = (
        "A recipe is one complete experiment in YAML: `mmvae train RECIPE` takes the name of a shipped one or the path "
        "of your own. Set any key on the command line: `mmvae train polymnist_mopoe objective.beta=5`. With "
        "`--dry-run` it prints all settings and trains nothing. `mmvae train --list` prints what is on this page."
    )
    needs: dict[str, list[list[str]]] = {}
    for name, line in listing.recipes().items():
        needs.setdefault(_needs(name), []).append([f"`{name}`", line])
    shown = [
        part
        for command, rows in needs.items()
        for part in (f"With the data of `{command}`:", _table(["recipe", "what it trains"], rows))
    ]
    keys = [[f"`{key.name}`", _code(key.values), key.default, key.meaning] for key in listing.settings()]
    return "\n\n".join([
        "# Recipes", MADE, about,
        "## Shipped recipes", *shown,
        "## Keys", "`*` is the name of a modality. On the command line, "
        "`modalities.*.KEY=VALUE` sets a key of all modalities that have it, and `modalities.NAME=null` leaves a "
        "modality out. A key that would do nothing is refused with the reason.",
        _table(["key", "values", "default", "meaning"], keys),
        "## Networks", _table(["network", "for"], [[f"`{name}`", use] for name, use in listing.networks().items()]),
        "## Likelihoods", _table(["kind of data", "likelihoods, the usual one first"],
                                 [[kind, names] for kind, names in listing.likelihoods().items()]),
    ]) + "\n"  # fmt: skip


def _needs(name: str) -> str:
    found = re.search(r"^# Needs: (.*)$", shipped()[name].read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def methods() -> str:
    """Every row of the table of methods."""
    about = (
        "Any recipe trains by any method: `mmvae train polymnist_quick model.method=mvtcae`.\n\n"
        "A method is a preset of keys, one row of the table in `mmvae_cli/recipe/methods.py`. Each key can also be set "
        "by itself. [equations.md](equations.md) has their formula, [recipes.md](recipes.md#keys) their meaning."
    )
    columns = {"components": "model.subsets", "fusion": "model.fusion", "a component decodes": "objective.decode",
               "prior": "objective.prior", "regulariser": "objective.kl", "bound": "objective.estimator"}  # fmt: skip
    rows = [[f"[`{name}`](#{_anchor(_heading(name))})", str(row.year or ""), *(str(row.settings.get(key, "")) for key in
             columns.values())] for name, row in METHODS.items()]  # fmt: skip
    short = (
        "An empty cell is the usual choice: fusion by `product`, a component decodes `all` modalities, the prior is "
        "`standard`, the regulariser is the KLs of the `components`, and the bound is the `elbo` of one sample. Below "
        "it, *preset* keys make the method what it is; *starting values* can be changed within the method."
    )
    table = _table(["method", "year", *columns], rows)
    return "\n\n".join(["# Methods", MADE, about, short, table, *map(_method, METHODS)]) + "\n"


def _anchor(title: str) -> str:
    """How a page's heading is linked to: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-")


def _heading(name: str) -> str:
    return f"{METHODS[name].title} (`{name}`)"


def _method(name: str) -> str:
    row = METHODS[name]
    said = {
        "what": row.idea,
        "from": row.paper,
        "preset": ", ".join(f"`{key}={listing.written(value)}`" for key, value in row.preset.items()),
        "starting values": ", ".join(f"`{key}={listing.written(value)}`" for key, value in row.usual.items()),
        "needs": needs(name),
    }
    return f"## {_heading(name)}\n\n" + _table(["", ""], [[what, text] for what, text in said.items() if text])


def needs(method: str) -> str:
    """What a recipe of three images has to say for this method beyond its name, as the refusal says it."""
    content = {
        "name": "asked", "dataset": {"name": "asked"}, "model": {"method": method, "latent_dim": 16},
        "modalities": {f"m{i}": {"network": "image28"} for i in range(3)},
        "training": {"epochs": 1, "batch_size": 1, "learning_rate": 1e-3},
    }  # fmt: skip
    try:
        validate(content, method)
    except UsageProblem as problem:
        return "; ".join(line.strip() for line in str(problem).splitlines()[1:])
    return ""


def _code(values: str) -> str:
    return " ".join(f"`{value}`" for value in values.split(" | "))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


PAGES = {"command-line.md": command_line, "recipes.md": recipes, "methods.md": methods}

if __name__ == "__main__":
    for page, made in PAGES.items():
        (HERE / page).write_text(made(), encoding="utf-8")
