"""``mmvae make-dataset``: a command for each dataset. Nothing heavy at import time."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmvae_cli.process import paths
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.options import DATA_DIR, DataDir, Debug, Quiet, Seed, path_option, word_or_path

make_dataset = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build or import a dataset.")


ImageFormat = Literal["npy", "png"]
TextBegins = Literal["random", "first"]
Out = Annotated[Path | None, path_option("--out", help="Folder of the dataset; default: its name under --data-dir.")]
Digits = Annotated[
    str,
    typer.Option(help="mnist (found under --data-dir or downloaded), embedded (1,797 digits that come with "
                 "scikit-learn), or a folder with four IDX files (FOLDER/PREFIX if it has more).",
                 metavar="mnist|embedded|PATH", parser=word_or_path("mnist", "embedded")),
]  # fmt: skip
Force = Annotated[bool, typer.Option("--force", help="Replace an existing dataset.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")]
Validation = Annotated[
    int, typer.Option(min=0, help="Hold out N training pictures of each source as a validation split.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most N items of each split, labels in proportion.")]


@make_dataset.command("polymnist")
def make_polymnist(
    context: typer.Context,
    digits: Digits = "mnist",
    backgrounds: Annotated[
        str, typer.Option(help="builtin (drawn from the seed), or a folder with one image per view.",
                          metavar="builtin|FOLDER", parser=word_or_path("builtin"))
    ] = "builtin",
    views: Annotated[int | None, typer.Option(min=1, max=64, help="Number of views; default: 5, or all.")] = None,
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Shuffles per view and label: N times the items.")] = 1,
    seed: Seed = 0,
    limit: Limit = None,
    validation: Validation = 0,
    scale: Annotated[
        float, typer.Option(min=0.1, max=1, help="Size of the digits; smaller ones are put at a random place.")
    ] = 1,
    rotate: Annotated[
        float, typer.Option(min=0, max=180, help="Largest angle, in degrees, by which digits are turned.")
    ] = 0,
    source: Annotated[
        Path | None, path_option("--from", help="Import a PolyMNIST: official PNG folders, a zip, or the tensors.")
    ] = None,
    image_format: Annotated[
        ImageFormat, typer.Option("--format", help="png: also write the official PNG folders under png/PolyMNIST.")
    ] = "npy",
    out: Out = None, force: Force = False, data_dir: DataDir = DATA_DIR,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Build PolyMNIST from digits and backgrounds, or import an existing one with --from.

    \b
    mmvae make-dataset polymnist --backgrounds FOLDER
    mmvae make-dataset polymnist --digits embedded --repeat 4
    mmvae make-dataset polymnist --scale 0.75 --rotate 45 --views 3
    mmvae make-dataset polymnist --from PolyMNIST.zip
    """
    from mmvae_cli.datasets import placing
    from mmvae_cli.datasets.polymnist import build as polymnist

    folder, png = out or data_dir / "polymnist", image_format == "png"
    with placing.reported(folder, as_json=as_json):
        if source is None:
            options = polymnist.PolymnistOptions(
                digits, backgrounds, views, repeat, seed, limit, validation, scale, rotate
            )
            polymnist.build(options, folder, data_dir, png=png, force=force)
        else:
            _refuse_with_from(context, "digits", "backgrounds", "repeat", "seed", "validation", "scale", "rotate")
            polymnist.import_from(source, folder, views=views, limit=limit, png=png, force=force)


def _refuse_with_from(context: typer.Context, *names: str) -> None:
    """An imported dataset is taken as it is: a setting of its construction would be ignored in silence."""
    if given := [name for name in names if _is_given(context, name)]:
        raise UsageProblem(f"--{given[0]} has no effect with --from", "leave one of the two out")


def _is_given(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


@make_dataset.command("mnist")
def make_mnist(
    digits: Digits = "mnist", validation: Validation = 0, limit: Limit = None, seed: Seed = 0,
    out: Out = None, force: Force = False, data_dir: DataDir = DATA_DIR,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Build MNIST with the digit's label as the second modality, a vector with a single 1: the pair of JMVAE and MVAE.

    \b
    mmvae make-dataset mnist
    mmvae make-dataset mnist --digits embedded
    """
    from mmvae_cli.datasets import mnist, placing

    folder = out or data_dir / mnist.NAME
    with placing.reported(folder, as_json=as_json):
        mnist.build(folder, data_dir, digits=digits, validation=validation, limit=limit, seed=seed, force=force)


@make_dataset.command("mnist-svhn-text")
def make_mnist_svhn_text(
    digits: Digits = "mnist",
    svhn: Annotated[
        str, typer.Option(help="auto (found under --data-dir or downloaded), embedded (house numbers drawn by the "
                               "program), or a folder with train_32x32.mat and test_32x32.mat.",
                          metavar="auto|embedded|PATH", parser=word_or_path("auto", "embedded"))
    ] = "auto",
    multiplier: Annotated[int, typer.Option(min=1, max=1000, help="Shuffles per modality and label.")] = 20,
    limit: Annotated[int | None, typer.Option(min=1, help="At most N items of each split, labels evenly.")] = None,
    validation: Validation = 0,
    seed: Seed = 0,
    out: Out = None, force: Force = False, data_dir: DataDir = DATA_DIR,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Build MNIST-SVHN-Text: a handwritten digit, a house number and a word; complete 1,121,360 + 200,000 triples.

    \b
    mmvae make-dataset mnist-svhn-text --svhn FOLDER
    mmvae make-dataset mnist-svhn-text --digits embedded --svhn embedded
    """
    from mmvae_cli.datasets import placing
    from mmvae_cli.datasets.mnist_svhn_text import build as mnist_svhn_text

    folder = out or data_dir / mnist_svhn_text.NAME
    with placing.reported(folder, as_json=as_json):
        mnist_svhn_text.build(
            folder, data_dir, digits=digits, svhn_source=svhn, multiplier=multiplier, limit=limit,
            validation=validation, seed=seed, force=force,
        )  # fmt: skip


@make_dataset.command("celeba")
def make_celeba(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(metavar="DIR|embedded", parser=word_or_path("embedded"),
                     help="Folder with img_align_celeba (folder or .zip), list_attr_celeba and "
                     "list_eval_partition (.txt or .csv); embedded: cartoon faces, no download. Default: the official "
                     "files in DATA_DIR/celeba or DATA_DIR/sources/celeba, else torchvision's download.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Faces to draw with --source embedded.")] = 6000,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out damaged rows and images, with a warning.")
    ] = False,
    attributes: Annotated[
        int | None, typer.Option(metavar="18|40", show_default=False,
                                 help="Also write attributes as a vector of zeros and ones: MVAE's 18, or all.")
    ] = None,
    text_begins: Annotated[
        TextBegins, typer.Option("--text-begins", metavar="random|first",
                                 help="At which of its 256 places a text begins: drawn for each image, as in the "
                                 "paper; or the first, where text is learned far sooner.")
    ] = "random",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most N images in all, shared out over the splits in proportion.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the places of texts, and of drawn faces.")] = 0,
    out: Out = None, force: Force = False, data_dir: DataDir = DATA_DIR,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Build bimodal CelebA: 64x64 faces and their 40 attributes as text; 202,599 pairs when complete.

    \b
    mmvae make-dataset celeba --source FOLDER
    mmvae make-dataset celeba --source embedded --count 2000
    mmvae make-dataset celeba --source FOLDER --attributes 18
    mmvae make-dataset celeba --source FOLDER --text-begins first --out data/celeba_first
    """
    from mmvae_cli.datasets import placing
    from mmvae_cli.datasets.celeba import build as celeba

    if source != "embedded" and _is_given(context, "count"):
        raise UsageProblem("--count has no effect without --source embedded", "use --limit for a part of CelebA")
    folder = out or data_dir / celeba.NAME
    with placing.reported(folder, as_json=as_json):
        celeba.build(
            folder, data_dir, source=source, count=count, limit=limit, seed=seed, skip_damaged=skip_damaged,
            attributes=attributes, texts_at_first=text_begins == "first", force=force,
        )  # fmt: skip


def _size(text: str) -> tuple[int, int]:
    """``64x48``: height and width."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) <= 4096 and 0 < int(width) <= 4096):
        raise UsageProblem(f"--size {text}: height and width in pixels", "as --size 64x64")
    return int(height), int(width)


OwnName = Annotated[str | None, typer.Option("--name", help="Name of the dataset; default: that of its source.")]
TestShare = Annotated[
    float | None, typer.Option("--test", help="Share of test items, if the data name no splits; default: 0.1.")
]
Raw = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A vector that is not standardised, such as counts; may be repeated."),
]
StartingRecipe = Annotated[
    Path | None, path_option("--recipe", help="Write a recipe that trains on the dataset into this file.")
]


@make_dataset.command("table")
def make_table(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", parser=paths.given, help="A .csv, .tsv, .jsonl or .parquet file.")
    ],
    modality: Annotated[
        list[str] | None, typer.Option(metavar="NAME=KIND:COLUMNS", help="Such as photo=image:file, note=text:note or "
                                       "lab=vector:age,bmi; may be repeated. Default: guessed, and printed.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the classes; default: label.")] = None,
    key: Annotated[str | None, typer.Option(help="Column with a unique name of each item; default: key or id.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of groups, as patients, that stay in one split.")] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out rows that cannot be read, and name them.")
    ] = False,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Size of pictures: their middle is cropped and resized.")
    ] = None,
    raw: Raw = None, test: TestShare = None, seed: Seed = 0, name: OwnName = None, recipe: StartingRecipe = None,
    out: Out = None, force: Force = False, data_dir: DataDir = DATA_DIR,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Build a dataset of your own from a table. Paths of pictures (from its folder) become an image, numbers a vector,
    other strings a text; the columns split and label give splits and classes.

    \b
    mmvae make-dataset table items.csv --recipe mine.yaml
    mmvae make-dataset table items.csv --modality photo=image:path --modality lab=vector:age,bmi --label species
    """
    from mmvae_cli.datasets import placing
    from mmvae_cli.datasets.own import build, from_table

    options = build.options(table, name, out, data_dir, test=test, seed=seed, raw=tuple(raw or ()), recipe=recipe,
                            size=_size(size) if size else None, force=force)  # fmt: skip
    with placing.reported(options.out, as_json=as_json):
        from_table.make(table, options, modalities=modality or [], label=label, group=group, key=key,
                        skip_damaged=skip_damaged)  # fmt: skip


@make_dataset.command("arrays")
def make_arrays(
    arrays: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", parser=paths.given, help="An .npz, or .npy files.")],
    raw: Raw = None, test: TestShare = None, seed: Seed = 0, name: OwnName = None, recipe: StartingRecipe = None,
    out: Out = None, force: Force = False, data_dir: DataDir = DATA_DIR,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Build a dataset of your own from arrays. Row i of each is item i; arrays called labels, split and keys give
    classes, splits and names of the items.

    \b
    mmvae make-dataset arrays data.npz --recipe mine.yaml
    """
    from mmvae_cli.datasets import placing
    from mmvae_cli.datasets.own import build, from_arrays

    options = build.options(arrays, name, out, data_dir, test=test, seed=seed, raw=tuple(raw or ()), recipe=recipe,
                            force=force)  # fmt: skip
    with placing.reported(options.out, as_json=as_json):
        from_arrays.make(arrays, options)


@make_dataset.command("anndata")
def make_anndata(
    cells: Annotated[Path, typer.Argument(metavar="FILE", parser=paths.given, help="An .h5ad or .h5mu file.")],
    modality: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PLACE", help="Such as rna=X, rna=layers/counts, protein=obsm/"
                                       "protein_expression; may be repeated. Default: guessed, and printed.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of obs with the classes; default: label.")] = None,
    split: Annotated[str | None, typer.Option(help="Column of obs with the splits; default: split.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of groups, as patients, that stay in one split.")] = None,
    raw: Raw = None, test: TestShare = None, seed: Seed = 0, name: OwnName = None, recipe: StartingRecipe = None,
    out: Out = None, force: Force = False, data_dir: DataDir = DATA_DIR,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Build a dataset of your own from single cells. Counts are kept as counts. In an .h5mu a cell may lack a modality.

    \b
    mmvae make-dataset anndata cells.h5ad --modality rna=X --modality protein=obsm/protein_expression --label cell_type
    """
    from mmvae_cli.datasets import placing
    from mmvae_cli.datasets.own import build, from_anndata

    options = build.options(cells, name, out, data_dir, test=test, seed=seed, raw=tuple(raw or ()), recipe=recipe,
                            force=force)  # fmt: skip
    with placing.reported(options.out, as_json=as_json):
        from_anndata.make(cells, options, modalities=modality or [], label=label, group=group, split=split)
