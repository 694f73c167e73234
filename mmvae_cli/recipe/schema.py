"""The schema of a recipe: its sections, their defaults, and what must hold between them.

A method's name settles the keys of ``choices.py``; validation fills them in, so that a resolved recipe hides nothing.
``meanings.py`` says what each key means.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from mmvae_cli.disk import plain_yaml
from mmvae_cli.process.named import Features, Pairs, Protocol, Sampler
from mmvae_cli.recipe import choices, families
from mmvae_cli.recipe.choices import Chosen, Estimator, Fusion, LatentFamily, PriorInside, Regulariser
from mmvae_cli.recipe.families import Subsets
from mmvae_cli.recipe.kinds import KINDS, SCALED
from mmvae_cli.recipe.methods import METHODS
from mmvae_cli.recipe.networks import MLP, NETWORKS, TEXT, Network
from mmvae_cli.recipe.section import Problems, Section, choice, flatten

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
TAKEN = "shared"
"""No modality's name: terms are known by theirs."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scale = Annotated[
    Annotated[Positive, Tag("scale:number")] | Annotated[Literal["learned"], Tag("scale:word")],
    Discriminator(lambda given: "scale:word" if isinstance(given, str) and given.isalpha() else "scale:number"),
]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class DatasetSpec(Section):
    """``name``: a folder under the data directory, or a path."""

    name: str = Field(min_length=1, max_length=4096)


OWN = "own."
"""What the names of the user's own networks begin with; the rest is a function of the file given by --code."""


class ModalitySpec(Section):
    """One modality: how it is encoded and decoded, and how likely its data are."""

    network: str
    likelihood: str
    scale: Scale | None = None
    shape: tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None = None
    width: int | None = Field(default=None, ge=1, le=1024)
    depth: int | None = Field(default=None, ge=0, le=64)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    layer_norm: bool | None = None
    characters: int | None = Field(default=None, ge=1, le=256)
    private_weight: NonNegative | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        network = given.get("network") if isinstance(given, dict) else None
        if not isinstance(network, str):
            return given
        made = NETWORKS.get(network, Network("image"))  # an unknown network is reported by its own field alone
        of_own = network.startswith(OWN)
        kind = KINDS[_kind_of_own(given.get("shape"), given.get("likelihood")) if of_own else made.kind]
        usual: dict[str, Any] = {"shape": made.shape, "likelihood": kind.likelihoods[0]}
        usual |= {"scale": kind.scale} if (given.get("likelihood") or usual["likelihood"]) in SCALED else {}
        usual |= MLP if network == "mlp" else TEXT if network == "text" else {}
        return given | {key: value for key, value in usual.items() if given.get(key) is None}

    @field_validator("network")
    @classmethod
    def _known_network(cls, network: str) -> str:
        if re.fullmatch(rf"{OWN}[A-Za-z]\w*", network) or network in NETWORKS:
            return network
        own = f"; one of your own is {OWN}{network}, with --code" if re.fullmatch(r"[A-Za-z]\w*", network) else ""
        raise ValueError(f"{choice(network, NETWORKS)}{own}")

    @model_validator(mode="after")
    def _consistent(self) -> "ModalitySpec":
        fixed, kind = None if self.is_own else NETWORKS[self.network].shape, KINDS[self.kind]
        if self.likelihood not in kind.likelihoods:
            raise ValueError(f"likelihood: {choice(self.likelihood, kind.likelihoods)}, which suit {self.kind} data")
        if self.scale is not None and self.likelihood not in SCALED:
            raise ValueError(
                f"scale: would do nothing: likelihood {self.likelihood!r} has none; {' and '.join(SCALED)} have one"
            )
        if self.shape is None:
            example = [3, 32, 32][: len(kind.sides)]
            raise ValueError(f"shape: network {self.network!r} needs one, such as {example} ({', '.join(kind.sides)})")
        if fixed is not None and self.shape != fixed:
            raise ValueError(f"shape: network {self.network!r} is made for {list(fixed)}")
        if len(self.shape) != len(kind.sides):
            raise ValueError(f"shape: [{', '.join(kind.sides)}] for {self.kind} data")
        if self.width is not None and not self.is_own and not NETWORKS[self.network].takes_width:
            several = [name for name, network in NETWORKS.items() if network.takes_width]
            raise ValueError(f"width: network {self.network!r} has one size only; {' and '.join(several)} take a width")
        for network, its in (("mlp", MLP), ("text", TEXT)):
            given = [key for key in its if key != "width" and getattr(self, key) is not None]
            if given and self.network != network and not self.is_own:
                raise ValueError(f"{given[0]}: only network {network!r} takes one, not {self.network!r}")
        return self

    @property
    def is_own(self) -> bool:
        """The network is a function of the user's own file."""
        return self.network.startswith(OWN)

    @property
    def kind(self) -> str:
        return _kind_of_own(self.shape, self.likelihood) if self.is_own else NETWORKS[self.network].kind


def _kind_of_own(shape: Any, likelihood: Any) -> str:
    """What a network of the user's own is for: three sides are an image's; one is a vector's, or a text's where the
    likelihood is one of texts."""
    if isinstance(shape, list | tuple) and len(shape) == 1:
        return "text" if likelihood in KINDS["text"].likelihoods else "vector"
    return "image"


_SETTLED: Any = None
"""The default of fields that validation fills in: never None in a recipe that has been read."""


class MethodSection(Section):
    """A section whose keys a method may settle. A key given as null counts as not given."""

    @model_validator(mode="before")
    @classmethod
    def _unsaid(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


class ModelSpec(MethodSection):
    """The subset family and the latent space. ``method`` settles the fields after the sizes; each can also be given. A
    key that does nothing beside the others is None."""

    method: str
    latent_dim: int = Field(ge=1, le=65536)
    private_dim: int = Field(default=0, ge=0, le=65536)
    subsets: Subsets = Field(default=_SETTLED)
    posterior: LatentFamily = Field(default=_SETTLED)
    learn_prior: bool = Field(default=_SETTLED)
    fusion: Fusion | None = None
    correlation: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    prior_expert: Literal["none", "full", "all"] = Field(default=_SETTLED)
    private: Literal["posterior", "auxiliary"] | None = None

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        if method not in METHODS:
            raise ValueError(choice(method, METHODS))
        return method


class ObjectiveSpec(MethodSection):
    """How the terms of the bound are estimated and weighed. A key that does nothing beside the others is None."""

    beta: NonNegative = 1.0
    beta_warmup: NonNegative = Field(default=_SETTLED)
    beta_content: NonNegative = 1.0
    beta_private: NonNegative | None = None
    likelihood_weights: Literal["by_size", "equal"] | dict[str, NonNegative] = "by_size"
    kl: Regulariser = Field(default=_SETTLED)
    prior: PriorInside | None = None
    prior_share: Literal["auto"] | Share | None = None
    alpha: Literal["auto"] | Share | None = None
    component_choice: Literal["stratified", "balanced", "random", "all"] | None = None
    component_weights: Literal["mean", "sum", "learned"] | None = None
    entropy_weight: NonNegative | None = None
    decode: Literal["all", "members"] | None = None
    estimator: Estimator = Field(default=_SETTLED)
    samples: Annotated[int, Field(ge=1, le=4096)] | None = None
    bound: Literal["loose", "tight"] | None = None
    random_subsets: Annotated[int, Field(ge=0, le=4096)] | None = None
    unimodal_weights: Literal["same", "one"] | None = None


class MissingSpec(Section):
    """What is taken from the training items, to see what a method makes of incomplete ones."""

    rate: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    keep: tuple[Name, ...] = ()
    rows: Literal["keep", "drop", "published"] = "keep"
    seed: int = Field(default=0, ge=0, lt=2**63)


class TrainingSpec(Section):
    """The optimisation and what is kept of it. Adam with torch's defaults, as in the paper."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: Positive
    schedule: Literal["constant", "cosine"] = "constant"
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["fp32", "tf32", "bf16"] = "tf32"
    compile: Literal["auto", "off"] = "auto"
    data_on: Literal["auto", "device", "host"] = "auto"
    checkpoint_every: int = Field(default=10, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    log_every: int = Field(default=50, ge=1)
    missing: MissingSpec | None = None


class EvaluationSpec(Section):
    """The measuring protocol; ``released`` repeats the behaviour of the authors' code (equations 6.4)."""

    protocol: Protocol = "default"
    split: Literal["test", "validation"] = "test"
    latent_samples: int = Field(default=500, ge=1)
    importance_samples: int = Field(default=15, ge=1)
    items: int | None = Field(default=None, ge=1)
    likelihood_items: int | None = Field(default=None, ge=1)
    subsets_per_size: int | None = Field(default=None, ge=1)
    classifiers: Protocol | None = None
    classifier_width: int | None = Field(default=None, ge=1, le=1024)
    sampler: Sampler = "prior"
    gmm_components: int = Field(default=10, ge=1, le=1024)
    joint_samples: int = Field(default=10_000, ge=1)
    features: Features = "classifier"
    pairs: Pairs = "default"
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

    @model_validator(mode="after")
    def _settled(self) -> "Recipe":
        """Fill in what the method decides. Raises ValueError with everything that does not go together."""
        names, weights = list(self.modalities), self.objective.likelihood_weights
        if TAKEN in names:
            raise ValueError(f"modalities.{TAKEN}: kl.{TAKEN} is the KL of the shared latent; rename the modality")
        if isinstance(weights, dict) and set(weights) != set(names):
            raise ValueError(f"objective.likelihood_weights: {_uneven(list(weights), names)}")
        kept = () if self.training.missing is None else self.training.missing.keep
        if unknown := [name for name in kept if name not in names]:
            raise ValueError(f"training.missing.keep: {choice(unknown[0], names)}")
        preset = METHODS[self.model.method].settings
        said = {part: getattr(self, part).model_dump(exclude_unset=True) for part in ("model", "objective")}
        given = {key: value for key, value in flatten(said).items() if value is not None}
        subsets = families.of_a_row(preset.get("model.subsets"), len(names))
        subsets = subsets if self.model.subsets is None else self.model.subsets
        if subsets is None:
            raise ValueError("model.subsets: is required by method custom")
        families.check(subsets, names)
        listed = families.subset_list(subsets, names)
        values, problems = choices.settle(
            given, preset, Chosen({"model.private_dim": self.model.private_dim}, self.model.method, listed, len(names))
        )
        values["objective.beta_private"], spare = self._of_private_latents()
        if problems := problems + spare:
            raise Problems(problems)
        for part in said:
            own = {key.removeprefix(f"{part}."): value for key, value in values.items() if key.startswith(part)}
            self.__dict__[part] = getattr(self, part).model_copy(update=own)
        self.__dict__["model"] = self.model.model_copy(update={"subsets": subsets})
        return self

    def _of_private_latents(self) -> tuple[float | None, list[str]]:
        """``objective.beta_private``, and what is wrong. It and every ``private_weight`` are 1 unless something else is
        said, and None where there are no private latents."""
        keys = {f"modalities.{name}.private_weight": spec.private_weight for name, spec in self.modalities.items()}
        keys["objective.beta_private"] = self.objective.beta_private
        if not self.model.private_dim:
            why = "would do nothing: there are no private latents (model.private_dim: 0)"
            return None, [f"{key}: {why}" for key, value in keys.items() if value is not None]
        self.__dict__["modalities"] = {
            name: spec if spec.private_weight is not None else spec.model_copy(update={"private_weight": 1.0})
            for name, spec in self.modalities.items()
        }
        return 1.0 if self.objective.beta_private is None else self.objective.beta_private, []

    def families(self) -> list[tuple[int, ...]]:
        """The admitted subsets as tuples of modality positions, by size, then lexicographic; the full set last."""
        return families.subset_list(self.model.subsets, list(self.modalities))

    @property
    def cautions(self) -> list[str]:
        """What is allowed here and may surprise, in words."""
        keys = flatten({"model": self.model.model_dump(), "objective": self.objective.model_dump()})
        chosen = Chosen(keys, self.model.method, self.families(), len(self.modalities))
        return [caution.what for caution in choices.CAUTIONS if caution.when(chosen)]

    @property
    def has_no_likelihood(self) -> str:
        """Why there is no log p(X) to be measured; "" where there is."""
        if self.objective.prior in ("mixture", "pairwise"):
            return "there is no joint generative model: each modality has a latent of its own, and z has no prior"
        return ""

    @property
    def has_unimodal_bounds(self) -> bool:
        """The components of one modality are bounds of their own beside the full set's, not parts of a mixture."""
        apart = self.objective.component_weights == "sum" or self.objective.decode == "members"
        return self.model.subsets == "full_and_singletons" and apart

    def weights(self) -> dict[str, float]:
        """Likelihood weight w_m per modality."""
        chosen = self.objective.likelihood_weights
        if isinstance(chosen, dict):
            return dict(chosen)
        if chosen == "equal":
            return dict.fromkeys(self.modalities, 1.0)
        return by_size({name: spec.shape or () for name, spec in self.modalities.items()})

    @property
    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return flatten(self.model_dump(mode="json"))

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any setting of the resolved recipe."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def with_epochs(self, epochs: int) -> "Recipe":
        """The same recipe with another length of training; the same training, too, where the schedule is constant."""
        return self.model_copy(update={"training": self.training.model_copy(update={"epochs": epochs})})

    def dump(self) -> str:
        """The resolved recipe as YAML that reads back to an equal recipe; a key that says nothing is not in it."""
        return plain_yaml.dump(self.model_dump(mode="json", exclude_none=True))


def by_size(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """The paper's likelihood weights: largest size / own size, with C*H*W for an image, F for a vector, L for a
    text."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    return {name: max(sizes.values()) / size for name, size in sizes.items()}


def _uneven(given: list[str], wanted: list[str]) -> str:
    """What is too much and what is missing where there has to be one for each modality."""
    odd = [choice(name, wanted) for name in given if name not in wanted]
    missing = [name for name in wanted if name not in given]
    return "; ".join([*odd, *([f"no weight for {', '.join(missing)}"] if missing else [])])
