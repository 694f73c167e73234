"""A user's own networks: a Python file that is run only when the command line names it.

Each public function of the file is a network ``own.NAME``. It takes what a recipe says of a modality and the number of
latent dimensions, and returns two modules: one that turns data (B, *shape) into features (B, ``features``), and one
that turns latents (B, D) into what the likelihood reads, (B, *shape), or (B, L, V) of a text.
"""

import hashlib
import shlex
from dataclasses import dataclass
from inspect import isfunction
from pathlib import Path
from types import ModuleType

from mmvae_cli.disk.files import reading
from mmvae_cli.model import networks
from mmvae_cli.process import console
from mmvae_cli.process.errors import OWN_FILES, DataProblem, UsageProblem, in_one_line, of_own_code
from mmvae_cli.recipe import Recipe
from mmvae_cli.run.layout import Run


@dataclass(frozen=True)
class Code:
    """A file that was run, as it was read."""

    path: Path
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def of_recipe(recipe: Recipe, path: Path | None, run: Run) -> Code | None:
    """Run the file that ``recipe`` needs; None where it needs none. Where ``run`` was begun already, it is the code
    that it keeps a copy of, and no other. Raises UsageProblem where recipe or file is there without the other, and for
    code that does not run."""
    own = _own(recipe)
    if path is None:
        if own:
            raise networks.unknown(own[0])
        return None
    if not own:
        raise UsageProblem(f"--code {path} has no effect: no network of the recipe is one of your own",
                           "name one: modalities.NAME.network=own.FUNCTION, or leave --code out")  # fmt: skip
    if not path.is_file():
        raise DataProblem(f"{path} is not there, or is no file", "--code names a Python file")
    with reading(path):
        code = Code(path, path.read_bytes())
    if run.code_path.is_file():
        run.check_code(code.content, str(code.path))
    _run(code)
    return code


def of_run(run: Run, recipe: Recipe, path: Path | None) -> None:
    """The same for a run that was trained."""
    if path is None and (own := _own(recipe)):
        hint = "it is not in the folder: ask who shared the run for the file, and give it with --code"
        if run.code_path.is_file():
            hint = f"look at it, then give --code {shlex.quote(str(run.code_path))}"
        raise UsageProblem(f"{run.folder} has networks of its own ({own[0]}): their code is run only when asked, never "
                           "because a folder holds it", hint)  # fmt: skip
    of_recipe(recipe, path, run)


def _own(recipe: Recipe) -> list[str]:
    return [spec.network for spec in recipe.modalities.values() if spec.is_own]


def _run(code: Code) -> None:
    module = ModuleType("own")
    OWN_FILES.add(str(code.path))
    try:
        exec(compile(code.content, str(code.path), "exec"), vars(module))
    except (Exception, SystemExit) as error:  # whatever a user's code raises, or leaves by
        raise of_own_code(error) or UsageProblem(f"{code.path}: {in_one_line(error)}", "mend the code") from error
    networks.OWN.clear()
    networks.OWN.update({name: function for name, function in vars(module).items()
                         if isfunction(function) and function.__module__ == "own" and name[0] != "_"})  # fmt: skip
    console.say(f"networks of your own: {code.path} was run (SHA-256 {code.sha256[:16]})")
