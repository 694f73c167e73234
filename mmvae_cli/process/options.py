"""Options that commands share: a path, the data folder, how much is said. Every command reads them alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmvae_cli.process import console, paths
from mmvae_cli.process.named import Features, Pairs, Sampler


def path_option(*names: str, **more: Any) -> Any:
    """An option that is a path; every one is read alike (:func:`paths.given`)."""
    return typer.Option(*names, parser=lambda text: paths.given(str(text)), metavar="PATH", **more)


def word_or_path(*words: str) -> Callable[[str], str]:
    """The parser of an option that is one of ``words`` or a path."""
    return lambda text: text if text in words else str(paths.given(text))


def _hushed(quiet: bool) -> bool:
    console.set_quiet(quiet)
    return quiet


def _apart(context: typer.Context, code: Path | None) -> Path | None:
    if code is not None:
        context.with_resource(console.only_results())
    return code


DataDir = Annotated[
    Path, path_option("--data-dir", envvar="MMVAE_DATA_DIR", help="Folder of the datasets.", show_default=True)
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print no messages and no progress, only warnings and errors.", callback=_hushed
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; so does MMVAE_DEBUG=1.")]
DATA_DIR = Path("data")
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything drawn at random.")]


Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Paper = Annotated[
    int | None, typer.Option(min=1, max=2, metavar="COLUMNS", show_default=False,
                             help="Figures for a paper, 1 or 2 columns wide: PDF and SVG, no line about the data.")
]  # fmt: skip
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Check the dataset's checksums before use.")]
Run = Annotated[Path, path_option("--ckpt", help="Run folder, or hf://USER/NAME.")]
Code = Annotated[
    Path | None,
    path_option("--code", help="File of your own networks (own.NAME in the recipe). It is executed.", callback=_apart),
]
Checkpoint = Annotated[Path | None, path_option(help="A checkpoint file; default: the newest valid one.")]


Resume = Literal["auto", "never", "must"]
Launch = Literal["local", "slurm"]
Target = Literal["latents", "csv", "tensorboard", "wandb", "mlflow", "hub", "onnx"]
FigureKind = Literal["prior", "conditional", "reconstruction", "swap", "latent"]
Format = Literal["table", "md", "csv", "tex", "json", "html"]

SamplerOption = Annotated[
    Sampler | None, typer.Option("--sampler", help="What z is drawn from when no modality is given: prior, or "
                                 "gmm, a mixture fitted to encoded training items. Default: the recipe's.",
                                 show_default=False)
]  # fmt: skip
SubsetsPerSize = Annotated[
    int | None, typer.Option(min=1, help="Measure at most N subsets of each size; default: the recipe's, or all.",
                             show_default=False)
]  # fmt: skip
Items = Annotated[
    int | None, typer.Option(min=1, help="Measure at most N items of the split; default: the recipe's, or all.",
                             show_default=False)
]  # fmt: skip
LatentSamples = Annotated[
    int | None, typer.Option(min=1, help="Training items that the latent classifiers learn from; more than there "
                             "are: all. Default: the recipe's.", show_default=False)
]  # fmt: skip
FeaturesOption = Annotated[
    Features | None, typer.Option("--features", help="Features in which quality compares samples: classifier, those of "
                                  "the coherence classifiers; inception, those of FID, from a file of yours. Default: "
                                  "the recipe's.",
                                  show_default=False)
]  # fmt: skip
PairsOption = Annotated[
    Pairs | None, typer.Option("--pairs", help="Which samples quality compares: default, all, or as the papers of "
                               "mmvaeplus, mvtcae, multivae do. Default: the recipe's.", show_default=False)
]  # fmt: skip
