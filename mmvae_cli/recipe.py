"""The recipe: one complete experiment as validated YAML. No torch.

Every setting of the science lives here and can be overridden as ``KEY=VALUE``. A method's name is a preset of
``subsets``, ``prior_expert`` and ``unimodal_elbos``; validation fills them in, so that a resolved recipe hides nothing.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mmvae_cli import plain_yaml
from mmvae_cli.errors import UsageProblem
from mmvae_cli.kinds import KINDS

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
MAX_SUBSETS = 4096
_MAX_BYTES = 1 << 20


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetSpec(Section):
    """``name``: a folder under the data directory, or a path."""

    name: str = Field(min_length=1, max_length=4096)


# network name -> (kind of data, shape it is made for; None: the recipe says)
NETWORKS: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "image28": ("image", (3, 28, 28)),
    "conv": ("image", None),
    "conv_bn": ("image", None),
    "mnist": ("image", (1, 28, 28)),
    "svhn": ("image", (3, 32, 32)),
    "text8": ("text", (8,)),
    "face64": ("image", (3, 64, 64)),
    "text256": ("text", (256,)),
}
SCALABLE = ("image28", "conv", "conv_bn", "face64", "text256")
"""Networks with a ``width``: hidden units of image28, conv and conv_bn (null: as many as latent dimensions, as in the
released code), channels after the first convolution of face64 and text256 (null: the paper's 128)."""


class ModalitySpec(Section):
    """One modality: how it is encoded and decoded, and how likely its data are.

    ``likelihood`` is the usual one of the network's kind of data unless given; ``scale`` is the constant scale of a
    laplace or normal one. ``shape`` is needed where the network leaves it open: (channels, height, width) of an image,
    (length,) of a text. ``width`` makes a network smaller or larger where it can be (null: the paper's size).
    ``private_weight`` is s_m of Eq. (34).
    """

    network: str
    likelihood: str
    scale: Positive = 0.75
    shape: tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None = None
    width: int | None = Field(default=None, ge=1, le=1024)
    private_weight: NonNegative = 1.0

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        network = given.get("network") if isinstance(given, dict) else None
        if not isinstance(network, str):
            return given
        kind, shape = NETWORKS.get(network, ("image", None))  # an unknown network is reported by its own field alone
        usual = {"shape": shape, "likelihood": KINDS[kind].likelihoods[0]}
        return given | {key: value for key, value in usual.items() if given.get(key) is None}

    @field_validator("network")
    @classmethod
    def _known_network(cls, network: str) -> str:
        return _one_of(network, NETWORKS)

    @model_validator(mode="after")
    def _consistent(self) -> "ModalitySpec":
        fixed, kind = NETWORKS[self.network][1], KINDS[self.kind]
        if self.likelihood not in kind.likelihoods:
            raise ValueError(f"likelihood: {_choice(self.likelihood, kind.likelihoods)}, which suit {self.kind} data")
        if self.shape is None:
            example = [3, 32, 32][: len(kind.sides)]
            raise ValueError(f"shape: network {self.network!r} needs one, such as {example} ({', '.join(kind.sides)})")
        if fixed is not None and self.shape != fixed:
            raise ValueError(f"shape: network {self.network!r} is made for {list(fixed)}")
        if len(self.shape) != len(kind.sides):
            raise ValueError(f"shape: [{', '.join(kind.sides)}] for {self.kind} data")
        if self.width is not None and self.network not in SCALABLE:
            raise ValueError(
                f"width: network {self.network!r} has one size only; {' and '.join(SCALABLE)} take a width"
            )
        return self

    @property
    def kind(self) -> str:
        return NETWORKS[self.network][0]


def _choice(given: str, allowed: Iterable[str]) -> str:
    """``'given' is not one of ...``, with the nearest match."""
    near = difflib.get_close_matches(given, allowed := list(allowed), n=1)
    return f"{given!r} is not one of {', '.join(allowed)}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _one_of(given: str, allowed: Iterable[str]) -> str:
    if given not in (allowed := list(allowed)):
        raise ValueError(_choice(given, allowed))
    return given


class SizeLimit(Section):
    max_size: int = Field(ge=1)


Subsets = Literal["full", "singletons", "all"] | SizeLimit | tuple[tuple[str, ...], ...]

_PAIR = ["image", "text"]

PRESETS: dict[str, dict[str, Any]] = {
    "mvae": {"subsets": "full", "prior_expert": "all", "unimodal_elbos": True},
    "mmvae": {"subsets": "singletons", "prior_expert": "none", "unimodal_elbos": False},
    "mopoe": {"subsets": "all", "prior_expert": "full", "unimodal_elbos": False},
    "custom": {"prior_expert": "full", "unimodal_elbos": False},
}


class ModelSpec(Section):
    """The subset family and the latent space. ``method`` presets the last three fields; each can be set by itself."""

    method: Literal["mvae", "mmvae", "mopoe", "custom"]
    latent_dim: int = Field(ge=1, le=65536)
    private_dim: int = Field(default=0, ge=0, le=65536)
    subsets: Subsets
    prior_expert: Literal["none", "full", "all"]
    unimodal_elbos: bool

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        method = given.get("method") if isinstance(given, dict) else None
        if isinstance(given, dict):  # an unknown method is reported by its own field alone
            preset = PRESETS.get(method, PRESETS["mopoe"]) if isinstance(method, str) else PRESETS["mopoe"]
            return preset | {key: value for key, value in given.items() if value is not None}
        return given


class ObjectiveSpec(Section):
    """How the terms of the bound are estimated and weighed."""

    beta: NonNegative = 1.0
    beta_content: NonNegative = 1.0
    beta_private: NonNegative = 1.0
    likelihood_weights: Literal["by_size", "equal", "released", "mmjsd"] | dict[str, NonNegative] = "by_size"
    component_choice: Literal["stratified", "random", "all"] = "stratified"
    kl: Literal["components", "mixture"] = "components"
    unimodal_weights: Literal["one", "same"] = "one"


class TrainingSpec(Section):
    """The optimisation and what is kept of it. Adam with torch's defaults, as in the paper."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: Positive
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["fp32", "tf32", "bf16"] = "tf32"
    compile: Literal["auto", "off"] = "auto"
    data_on: Literal["auto", "device", "host"] = "auto"
    checkpoint_every: int = Field(default=10, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    log_every: int = Field(default=50, ge=1)
    tensorboard: bool = False


class EvaluationSpec(Section):
    """The measuring protocol; ``released`` repeats the behaviour of the authors' code (README, "Two protocols").

    ``items`` and ``likelihood_items`` limit how many of the split's items are measured (null: all), and
    ``subsets_per_size`` how many subsets of each size, drawn by the seed (null: all, 2^M - 1 together).
    ``classifier_width``: size of the attribute classifiers that judge coherence (null: the paper's 128).
    """

    protocol: Literal["default", "released"] = "default"
    split: Literal["test", "validation"] = "test"
    latent_samples: int = Field(default=500, ge=1)
    importance_samples: int = Field(default=15, ge=1)
    items: int | None = Field(default=None, ge=1)
    likelihood_items: int | None = Field(default=None, ge=1)
    subsets_per_size: int | None = Field(default=None, ge=1)
    classifier_width: int | None = Field(default=None, ge=1, le=1024)
    seed: int = Field(default=0, ge=0, lt=2**63)


class Recipe(Section):
    """One experiment, complete: can be read, validated and dry-run without the data."""

    name: Name
    dataset: DatasetSpec
    modalities: dict[Name, ModalitySpec] = Field(min_length=1, max_length=64)
    model: ModelSpec
    objective: ObjectiveSpec = ObjectiveSpec()
    training: TrainingSpec
    evaluation: EvaluationSpec = EvaluationSpec()

    @field_validator("model")
    @classmethod
    def _family(cls, model: ModelSpec, info: Any) -> ModelSpec:
        names = list(info.data.get("modalities", {}))
        if names:
            _check_subsets(model.subsets, names)
        return model

    @model_validator(mode="after")
    def _weights(self) -> "Recipe":
        weights = self.objective.likelihood_weights
        if isinstance(weights, dict) and set(weights) != set(self.modalities):
            raise ValueError(f"objective.likelihood_weights: one weight for each of {', '.join(self.modalities)}")
        if weights in ("released", "mmjsd") and sorted(spec.kind for spec in self.modalities.values()) != _PAIR:
            raise ValueError(
                f"objective.likelihood_weights: {weights!r} is for one image and one text, as in CelebA; "
                "by_size has the released numbers of PolyMNIST and MNIST-SVHN-Text"
            )
        return self

    def families(self) -> list[tuple[int, ...]]:
        """The admitted subsets as tuples of modality positions, by size, then lexicographic; the full set last."""
        return subset_list(self.model.subsets, list(self.modalities))

    def weights(self) -> dict[str, float]:
        """Likelihood weight w_m per modality (facts 1.5), from the sizes C*H*W of an image and L of a text.

        ``by_size`` (the paper's rule): largest size / own size. For one image and one text, both measured by the
        image's H*W pixels: ``released`` (the paper's code): H*W / size, so 1/C for the image; ``mmjsd`` (the code that
        it came from): 1 for the image, H*W / L for the text.
        """
        chosen = self.objective.likelihood_weights
        if isinstance(chosen, dict):
            return dict(chosen)
        if chosen == "equal":
            return dict.fromkeys(self.modalities, 1.0)
        sizes = {name: size_of(spec) for name, spec in self.modalities.items()}
        if chosen == "by_size":
            return {name: max(sizes.values()) / size for name, size in sizes.items()}
        images = {name: spec.shape for name, spec in self.modalities.items() if spec.kind == "image" and spec.shape}
        ((image, (_, height, width)),) = images.items()
        weights = {name: height * width / size for name, size in sizes.items()}
        return weights if chosen == "released" else weights | {image: 1.0}

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any setting of the resolved recipe."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def with_epochs(self, epochs: int) -> "Recipe":
        """The same recipe with another length of training."""
        return self.model_copy(update={"training": self.training.model_copy(update={"epochs": epochs})})

    def dump(self) -> str:
        """The resolved recipe as YAML that reads back to an equal recipe."""
        return plain_yaml.dump(self.model_dump(mode="json"))


def size_of(spec: ModalitySpec) -> int:
    """Number of data dimensions: C*H*W of an image, number of positions of a text (not positions x characters)."""
    size = 1
    for side in spec.shape or ():
        size *= side
    return size


def _check_subsets(subsets: Subsets, names: list[str]) -> None:
    if isinstance(subsets, tuple):
        for subset in subsets:
            if unknown := [name for name in subset if name not in names]:
                raise ValueError(f"subsets: unknown modality {unknown[0]!r}; the recipe has {', '.join(names)}")
            if not subset or len(set(subset)) != len(subset):
                raise ValueError(f"subsets: {list(subset)} is empty or names a modality twice")
        if not subsets or len({frozenset(s) for s in subsets}) != len(subsets):
            raise ValueError("subsets: the list is empty or has the same subset twice")
        if missing := [name for name in names if not any(name in s for s in subsets)]:
            raise ValueError(f"subsets: {missing[0]!r} is in no subset, so its encoder would never be used")
    elif isinstance(subsets, SizeLimit) and subsets.max_size > len(names):
        raise ValueError(f"subsets: max_size {subsets.max_size} is more than the {len(names)} modalities")
    if (count := _count_subsets(subsets, len(names))) > MAX_SUBSETS:
        raise ValueError(
            f"subsets: {count:,} subsets of {len(names)} modalities are more than {MAX_SUBSETS:,}; "
            "limit their size with subsets: {max_size: K} or list them"
        )


def _count_subsets(subsets: Subsets, modalities: int) -> int:
    from math import comb

    if isinstance(subsets, tuple):
        return len(subsets)
    if isinstance(subsets, SizeLimit):
        return sum(comb(modalities, k) for k in range(1, subsets.max_size + 1))
    return {"full": 1, "singletons": modalities, "all": 2**modalities - 1}[subsets]


def subset_list(subsets: Subsets, names: list[str]) -> list[tuple[int, ...]]:
    """Resolve ``subsets`` to sorted tuples of positions in ``names``, ordered by size, then lexicographically."""
    from itertools import combinations

    count = len(names)
    if isinstance(subsets, tuple):
        chosen = [tuple(sorted(names.index(name) for name in subset)) for subset in subsets]
        return sorted(chosen, key=lambda subset: (len(subset), subset))
    if subsets == "full":
        return [tuple(range(count))]
    top = subsets.max_size if isinstance(subsets, SizeLimit) else 1 if subsets == "singletons" else count
    return [subset for size in range(1, top + 1) for subset in combinations(range(count), size)]


# --- loading ---------------------------------------------------------------------------------------------------------


def shipped() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    inside = Path(str(resources.files("mmvae_cli"))) / "recipes"
    folder = inside if inside.is_dir() else Path(__file__).parent.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Path:
    """An existing file wins, else the shipped recipe of that name; the error lists them and the nearest match."""
    if os.path.isfile(name):  # unlike Path's, it says no to a name too long for any file
        return Path(name)
    known = shipped()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageProblem(
        f"no recipe {name[:200]!r}", f"{hint}shipped recipes: {', '.join(known)}; or give a path to a .yaml"
    )


def load(name: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path and apply ``KEY=VALUE`` overrides. Raises UsageProblem listing every error."""
    path = find(name)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageProblem(f"{path}: larger than any recipe ({_MAX_BYTES >> 20} MiB)")
        content = plain_yaml.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UsageProblem(f"{path}: a recipe is a mapping with name, dataset, modalities, model, training ...")
    for override in overrides or []:
        _apply(content, override)
    return validate(content, str(path))


def validate(content: dict[str, Any], where: str) -> Recipe:
    """Turn plain data into a Recipe; every error of it in one message, each with its dotted path."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = list(dict.fromkeys(_explain(item, content) for item in _telling(error.errors())))
        raise UsageProblem(f"{where}: {len(lines)} error(s)\n" + "\n".join(f"  {line}" for line in lines)) from error


def _apply(content: dict[str, Any], override: str) -> None:
    """Set one dotted key from ``KEY=VALUE``; the value is YAML."""
    key, equals, value = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise UsageProblem(f"override {override!r} is not KEY=VALUE", "such as objective.beta=2.5")
    place = content
    for part in parts[:-1]:
        nested = place.get(part)
        place[part] = place = dict(nested) if isinstance(nested, dict) else {}
    place[parts[-1]] = plain_yaml.parse(value, f"override {key}")


def _telling(errors: list[Any]) -> list[Any]:
    """Without the errors of a union's other branches where a word was given that is none of the allowed words."""
    words = {
        _location(error) for error in errors if error["type"] == "literal_error" and isinstance(error["input"], str)
    }
    return [error for error in errors if error["type"] == "literal_error" or _location(error) not in words]


def _location(error: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in error["loc"] if not _is_union_tag(part))


def _explain(error: Any, content: Any) -> str:
    """One validation error as ``path: what, what is allowed, the nearest match``."""
    known = set(_field_names())
    location = list(_location(error))
    path, kind, context = ".".join(location), error["type"], error.get("ctx") or {}
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        return f"{path}: unknown key" + (f" (did you mean {_dotted(near[0], location)!r}?)" if near else "")
    if kind == "missing":
        return f"{path}: is required"
    if kind == "value_error":
        detail, colon, rest = str(context.get("error", error["msg"])).partition(": ")
        return ".".join([*location, detail]) + f": {rest}" if colon else f"{path}: {detail}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return f"{path}: {_choice(str(error['input']), allowed)}"
    return f"{path}: {error['msg'][:1].lower()}{error['msg'][1:]}, not {error['input']!r}"[:400]


def _dotted(field: str, location: list[str]) -> str:
    """The field's full path where it belongs to another section than the one it was looked for in."""
    if len(location) == 1:
        for name, info in Recipe.model_fields.items():
            section = info.annotation
            if isinstance(section, type) and issubclass(section, BaseModel) and field in section.model_fields:
                return f"{name}.{field}"
    return field


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (
        part.startswith(("literal[", "tuple[", "dict[")) or part in {"SizeLimit", "[key]"}
    )


def _field_names() -> list[str]:
    sections = [Recipe, *(f.annotation for f in Recipe.model_fields.values()), ModalitySpec, SizeLimit]
    return [name for s in sections if isinstance(s, type) and issubclass(s, BaseModel) for name in s.model_fields]


def dataset_folder(recipe: Recipe, data_dir: Path) -> Path:
    """Where the recipe's dataset is: a path as given, a plain name under ``data_dir``."""
    name = recipe.dataset.name
    return Path(name).expanduser() if "/" in name or name in (".", "..") else data_dir / name


def difference(old: Recipe, new: Recipe) -> list[str]:
    """The dotted keys in which two recipes differ, as ``key: old -> new``."""
    before, after = flatten(old.model_dump(mode="json")), flatten(new.model_dump(mode="json"))
    keys = dict.fromkeys([*before, *after])
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in keys if before.get(key) != after.get(key)]


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
