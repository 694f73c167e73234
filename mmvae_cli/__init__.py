"""mmvae: multimodal VAEs as one model over a family of modality subsets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmvae_cli.export.opened import OpenedRun
    from mmvae_cli.recipe import Recipe

__version__ = "0.2.0.dev0"


def open_run(
    path: str | Path, *, data_dir: str | Path = "data", device: str = "auto", checkpoint: str | Path | None = None,
    code: str | Path | None = None,
) -> "OpenedRun":  # fmt: skip
    """A trained run as an object: ``encode``, ``generate``, ``reconstruct``, ``latents``, ``data``, ``evaluation``,
    ``recipe``. torch is imported here, not with the package.

    ``path``: the run's folder, or hf://USER/NAME. ``data_dir``: where its dataset is; a shared run does without it.
    ``device``: auto, cpu, cuda or cuda:N. ``checkpoint``: a file of the run; the newest valid one unless given.
    ``code``: the file of its own networks, which is run. Raises UsageProblem and DataProblem
    (``mmvae_cli.process.errors``) where the command line would say so.
    """
    from mmvae_cli.process import cores

    cores.limit_once()  # before torch is loaded
    from mmvae_cli.export.opened import OpenedRun
    from mmvae_cli.process.paths import of_python
    from mmvae_cli.run import shared

    chosen = None if checkpoint is None else of_python("checkpoint", checkpoint)
    own, data = None if code is None else of_python("code", code), of_python("data_dir", data_dir)
    return OpenedRun(shared.folder_of(of_python("path", path)), chosen, data, str(device), own)


def train(
    recipe: "str | Path | Mapping[str, Any] | Recipe", arrays: Mapping[str, Any], *, overrides: Sequence[str] = (),
    run: str | Path | None = None, data_dir: str | Path = "data", device: str = "auto", code: str | Path | None = None,
) -> "OpenedRun":  # fmt: skip
    """Train on arrays in memory, and open the run. A dataset and a run are written as the commands write them, so that
    ``mmvae evaluate``, ``sample`` and ``compare`` take them, and the same call goes on with a run that was stopped.

    ``recipe``: the name of a shipped recipe, a .yaml file, its content, which may leave shapes to the data, or that of
    an opened run; ``overrides``: as ``"objective.beta=2"``.
    ``arrays``: modality -> data of N items, of the forms that :func:`open_run` takes, and, where there are any,
    ``labels`` (N,), ``keys`` (N,), the items' own names, and ``split`` (N,), the words train, test and validation;
    without it a tenth of the items is for testing. An item lacks a modality where ``NAME_present`` (N,) is false, the
    string is empty, or all numbers of the vector are nan. ``run``: the run's folder, runs/NAME-seedN unless given.
    ``code``: the file of networks ``own.FUNCTION`` that the recipe names, which is run.
    Raises UsageProblem for arrays that do not fit the recipe, and where ``data_dir`` holds other data under the
    dataset's name.
    """
    from mmvae_cli.process import cores

    cores.limit_once()  # before torch is loaded
    from mmvae_cli.export import in_memory
    from mmvae_cli.process.paths import of_python

    place, own = None if run is None else of_python("run", run), None if code is None else of_python("code", code)
    folder = in_memory.train(recipe, arrays, overrides, place, of_python("data_dir", data_dir), str(device), own)
    return open_run(folder, data_dir=data_dir, device=device, code=code)
