"""Writes the pages of docs/ that are made from the code: ``make docs``."""

import re
from pathlib import Path

from typer.testing import CliRunner

from mmvae_cli.cli import app
from mmvae_cli.recipe import listing, load, shipped
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
    about = "What `--help` says after each command. `mmvae train --list` shows every recipe, method, network and key."
    return "\n\n".join(["# The command line", MADE, about, *shown]) + "\n"


def _help(command: str) -> str:
    environment = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "MMVAE_DATA_DIR": None, "MMVAE_DEBUG": None}
    run = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="mmvae", env=environment, terminal_width=100)
    return "\n".join(line.rstrip() for line in run.output.strip().splitlines())


def recipes() -> str:
    """Every shipped recipe, network, likelihood and key."""
    about = (
        "A recipe is one complete experiment as YAML. Give its name or a path to your own: `mmvae train RECIPE`. Any "
        "key can be set on the command line: `mmvae train polymnist_mopoe objective.beta=5`. `mmvae train RECIPE "
        "--dry-run` prints the resolved recipe. This page is also printed by `mmvae train --list`."
    )
    shown = [[f"`{name}`", line, f"`{_needs(name)}`"] for name, line in listing.recipes().items()]
    keys = [[f"`{key.name}`", _code(key.values), key.default, key.meaning] for key in listing.settings()]
    return "\n\n".join([
        "# Recipes", MADE, about,
        "## Shipped recipes", _table(["recipe", "what it trains", "its data"], shown),
        "## Keys", "`modalities.*` stands for each modality by its name. On the command line, "
        "`modalities.*.KEY=VALUE` sets the key of every modality that has a use for it, and `modalities.NAME=null` "
        "leaves one out. A key of a method that would do nothing beside the others is refused with the reason.",
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
        "A method is a row of the table in `mmvae_cli/recipe/methods.py`: a preset of keys, each of which can be set "
        "by itself. [equations.md](equations.md) has the formula that the keys belong to, [recipes.md](recipes.md) "
        "says what they mean."
    )
    columns = {"components": "model.subsets", "fusion": "model.fusion", "a component decodes": "objective.decode",
               "prior": "objective.prior", "regulariser": "objective.kl", "bound": "objective.estimator"}  # fmt: skip
    rows = [[f"[`{name}`](#{_anchor(_heading(name))})", str(row.year or ""), *(str(row.settings.get(key, "")) for key in
             columns.values())] for name, row in METHODS.items()]  # fmt: skip
    short = (
        "An empty cell is the usual choice: a product of experts, a component decodes `all` modalities, the prior is "
        "`standard`, the regulariser is the mean KL of the `components`, and the bound is the `elbo` of one sample."
    )
    table = _table(["method", "year", *columns], rows)
    return "\n\n".join(["# Methods", MADE, about, table, short, *map(_method, METHODS)]) + "\n"


def _anchor(title: str) -> str:
    """How a page's heading is linked to: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-")


def _heading(name: str) -> str:
    return f"{METHODS[name].title} (`{name}`)"


def _method(name: str) -> str:
    row = METHODS[name]
    said = {
        "from": row.paper,
        "preset": ", ".join(f"`{key}={listing.written(value)}`" for key, value in row.preset.items()),
        "starts from": ", ".join(f"`{key}={listing.written(value)}`" for key, value in row.usual.items()),
        "needs": listing.needs(name),
        "components": _components(name),
        "recipes": ", ".join(f"`{recipe}`" for recipe in listing.recipes_of(name)),
    }
    return f"## {_heading(name)}\n\n" + _table(["", ""], [[what, text] for what, text in said.items() if text])


def _components(name: str) -> str:
    known = listing.recipes_of(name)
    if not known:
        return ""
    recipe = load(known[0])
    return f"{len(recipe.families())} of {len(recipe.modalities)} modalities (`{known[0]}`)"


def _code(values: str) -> str:
    return " ".join(f"`{value}`" for value in values.split(" | "))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


PAGES = {"command-line.md": command_line, "recipes.md": recipes, "methods.md": methods}

if __name__ == "__main__":
    for page, made in PAGES.items():
        (HERE / page).write_text(made(), encoding="utf-8")
