"""Which figures a ``mmvae sample`` makes: a function of what is asked for and of the run's modalities. No torch."""

import re
from dataclasses import dataclass

from mmvae_cli.disk.files import short_name
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.words import did_you_mean, nearest
from mmvae_cli.recipe.families import powerset
from mmvae_cli.store import attribute_text

DEFAULT_COUNT = {"reconstruction": 10, "prior": 100, "conditional": 10, "swap": 10, "latent": 500}
FIGURE_KINDS = tuple(DEFAULT_COUNT)
ON_PAPER = ("pdf", "svg")
"""The files that a picture for a paper is written as, beside its PNG."""
_ALL_SOURCES = 3
"""Up to so many modalities all conditional grids are made unasked; with more, only the paper's Figures 10 and 11."""
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Figure:
    """One drawing: ``name``.npz and the ``pictures`` made of it.

    ``given`` are the observed modalities and ``target`` the generated ones, in the recipe's order. ``texts``: what the
    user typed, CelebA's attributes in the order of their list; then the one given modality is the text itself.
    """

    kind: str
    name: str
    pictures: tuple[str, ...]
    given: tuple[str, ...]
    target: tuple[str, ...]
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FigureRequest:
    """What the command line asked for; None where it said nothing."""

    kind: str | None = None
    given: str | None = None
    target: str | None = None
    texts: tuple[str, ...] = ()


def choose_figures(
    request: FigureRequest, kinds: dict[str, str], private_dim: int, labels: tuple[str, ...] = attribute_text.ATTRIBUTES
) -> list[Figure]:
    """The figures for a run whose modalities have these ``kinds`` (name -> image | text) and whose data have these
    ``labels``, in the order of drawing.

    Raises UsageProblem for an unknown name and for options that do not go together.
    """
    names, everyone = list(kinds), tuple(kinds)
    given, target = chosen("--given", request.given, names), chosen("--target", request.target, names)
    kind = request.kind or ("conditional" if given or target or request.texts else None)
    _refuse_contradictions(request, kind, private_dim)
    if request.texts:
        return _from_typed_text(request.texts, given, target, kinds, labels)
    makers = {
        "reconstruction": lambda: [Figure("reconstruction", "reconstruction", ("reconstruction",), everyone, everyone)],
        "prior": lambda: [Figure("prior", "prior", ("prior", *(f"random_{n}" for n in names)), (), everyone)],
        "conditional": lambda: _conditional(given, target, names),
        "swap": lambda: [_swap(given, name) for name in target or names] if private_dim else [],
        "latent": lambda: [Figure("latent", "latent", ("latent",), everyone, ())],
    }
    return [figure for each in ([kind] if kind else FIGURE_KINDS) for figure in makers[each]()]


def chosen(option: str, value: str | None, names: list[str]) -> tuple[str, ...]:
    """``m3,m0`` (or ``m3+m0``) -> ("m0", "m3"); empty where nothing was said."""
    if value is None:
        return ()
    wanted = [part.strip() for part in re.split(r"[,+]", value) if part.strip()]
    for name in wanted:
        if name not in names:
            meant = did_you_mean(nearest(name, names))
            raise UsageProblem(f"{option}: no modality {name[:64]!r} in this run", f"{meant}it has {', '.join(names)}")
    if not wanted:
        raise UsageProblem(f"{option} names no modality", f"this run has {', '.join(names)}")
    return tuple(name for name in names if name in wanted)


def _refuse_contradictions(request: FigureRequest, kind: str | None, private_dim: int) -> None:
    if kind in ("prior", "reconstruction", "latent"):
        for option, value in (("--given", request.given), ("--target", request.target), ("--text", request.texts)):
            if value:
                raise UsageProblem(f"{option} has no effect with --kind {kind}", "use it with --kind conditional")
    if kind == "swap" and request.texts:
        raise UsageProblem("--text has no effect with --kind swap", "use it with --kind conditional")
    if kind == "swap" and not private_dim:
        raise UsageProblem(
            "--kind swap: this run has no private latents to swap",
            "train with model.private_dim=N, as celeba recipes do",
        )


def _conditional(given: tuple[str, ...], target: tuple[str, ...], names: list[str]) -> list[Figure]:
    """Figures 10 and 11 and the grids across modalities. Without a target: every modality that is not given; without
    a source: all the others."""
    if given:
        rest = tuple(name for name in names if name not in given)
        return [_grid(given, name) for name in target or rest or names]
    if len(names) == 1:
        return [_grid(target, names[0])] if target else []
    others = {name: tuple(n for n in names if n != name) for name in names}
    if target:
        return [_grid(others[name], name) for name in target]
    if len(names) > _ALL_SOURCES:
        return [_grid((names[1],), names[0]), _grid(others[names[0]], names[0])]
    return [_grid(source, name) for name in names for source in powerset(others[name])]


def _grid(given: tuple[str, ...], target: str) -> Figure:
    name = short_name(f"{target}_given_{'+'.join(given)}", _LONGEST_NAME)
    return Figure("conditional", name, (name,), given, (target,))


def _swap(given: tuple[str, ...], target: str) -> Figure:
    """Private latent of one item with the content of another: content from ``given``, by default from the target."""
    long = f"swap_{target}_given_{'+'.join(given)}" if given and given != (target,) else f"swap_{target}"
    name = short_name(long, _LONGEST_NAME)
    return Figure("swap", name, (name,), given or (target,), (target,))


def _from_typed_text(
    texts: tuple[str, ...], given: tuple[str, ...], target: tuple[str, ...], kinds: dict[str, str],
    labels: tuple[str, ...],
) -> list[Figure]:  # fmt: skip
    """Figure 4 from what the user typed: CelebA's attributes, or the text itself."""
    source = _the_text(given, [name for name, kind in kinds.items() if kind == "text"], list(kinds))
    if labels == attribute_text.ATTRIBUTES:
        texts = tuple(", ".join(attribute_text.WORDS[a] for a in attributes_in(text)) for text in texts)
    if not all(text.strip() for text in texts):
        raise UsageProblem("--text is empty", "give the text to generate from")
    words = "_and_".join(re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "typed" for text in texts)
    figures = []
    for name in target or tuple(name for name in kinds if name != source):
        stem = short_name(f"{name}_given_{source}_{words}", _LONGEST_NAME)
        figures.append(Figure("conditional", stem, (stem,), (source,), (name,), texts))
    return figures


def _the_text(given: tuple[str, ...], texts: list[str], names: list[str]) -> str:
    """The text modality that was typed."""
    if not texts:
        raise UsageProblem("--text: this run has no text modality", f"it has {', '.join(names)}")
    if not given and len(texts) > 1:
        raise UsageProblem(f"--text: this run has several texts ({', '.join(texts)})",
                           f"say which one it is: --given {texts[0]}")  # fmt: skip
    source = given[0] if given else texts[0]
    if len(given) > 1 or source not in texts:
        raise UsageProblem(f"--text is what is given: leave --given {','.join(given)} out", "or leave --text out")
    return source


def attributes_in(text: str) -> tuple[int, ...]:
    """``"smiling, blond hair"`` -> positions in the list of attributes; case and underscores make no difference.

    Raises UsageProblem for a name that is no attribute, with the nearest one.
    """
    words = [" ".join(part.replace("_", " ").lower().split()) for part in text.split(",")]
    wanted = [word for word in words if word]
    if not wanted:
        raise UsageProblem("--text names no attribute", f"such as: smiling, blond hair; {_known()}")
    for word in wanted:
        if word not in attribute_text.WORDS:
            near = nearest(word, attribute_text.WORDS)
            raise UsageProblem(f"--text: no attribute {word[:64]!r}", f"{did_you_mean(near and repr(near))}{_known()}")
    return tuple(sorted({attribute_text.WORDS.index(word) for word in wanted}))


def _known() -> str:
    return f"the attributes are: {', '.join(attribute_text.WORDS)}"
