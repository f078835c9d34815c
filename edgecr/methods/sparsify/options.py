"""The options of masking single weights: scores, scopes and schedules. Torch-free: recipes are checked with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.errors import RequestError
from edgecr.core.options import Options
from edgecr.methods.base import Method
from edgecr.methods.prune.options import OneShot, Retraining
from edgecr.methods.sparsify.ratios import RATIOS, Level, by_fraction, in_rounds
from edgecr.surgery.repair.options import RepairOptions
from edgecr.training.losses import completed
from edgecr.training.options import TrainOptions

Sparsity = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, lt=1)]


class Rounds(Options):
    """Some weights go, the rest is trained, and again: iterative pruning, lottery tickets, learning-rate rewinding."""

    kind: Literal["iterative"]
    """Name of the schedule."""
    rounds: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Number of rounds up to ``sparsity``; each leaves the same fraction of what is there."""
    fraction: Annotated[float, Field(ge=0.001, lt=1)] | None = None
    """Fraction of what is left that goes in each round, as often as ``sparsity`` takes; the last round is exact."""
    ratios: Literal["lip_resnet20", "lip_robust"] | Annotated[tuple[Part, ...], Field(min_length=1)] | None = None
    """Sparsity after each round, rising, in place of ``sparsity``: a list, or the name of a known one."""
    retrain: Retraining = Retraining()
    """The training of each round; with ``rewind`` the one that made the model, when left out."""
    rewind: Literal["none", "rate", "weights"] = "none"
    """Part that goes back to an earlier moment of that training: none, the learning rate, or the weights too."""
    to: Annotated[int, Field(ge=0)] = 0
    """The update that ``rewind`` goes back to; for weights one of the ``snapshots`` of the train step."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        given = [name for name in ("rounds", "fraction", "ratios") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of rounds, fraction and ratios, not {' and '.join(given) or 'none'}")
        if isinstance(self.ratios, tuple) and list(self.ratios) != sorted(set(self.ratios)):
            raise ValueError("ratios must rise: weights that are gone do not return")
        if self.to and self.rewind == "none":
            raise ValueError("to does nothing with rewind: none; say rewind: rate or rewind: weights")
        return self

    def levels(self, sparsity: float) -> tuple[Level, ...]:
        """The sparsities of each round, of which the last is this one; ``ratios`` have their own."""
        if isinstance(self.ratios, str):
            return RATIOS[self.ratios]()
        if self.ratios is not None:
            return tuple((ratio,) for ratio in self.ratios)
        if self.fraction is not None:
            return by_fraction(sparsity, self.fraction)
        return in_rounds(sparsity, self.rounds or 1)


class Cubic(Options):
    """Weights go while the model is trained: many at first, ever fewer (GMP, Zhu and Gupta 2017). None returns."""

    kind: Literal["cubic"]
    """Name of the schedule."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the training before the first ones go."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Fraction of the training at which the last ones have gone."""
    every: Annotated[int, Field(ge=1)] = 100
    """Updates between two times."""
    initial: Sparsity = 0.0
    """Sparsity until ``start``."""
    retrain: Retraining = Retraining()
    """The whole training: before, while and after weights go."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start ({self.start:g}) must lie before end ({self.end:g})")
        if self.retrain.keep == "best":
            raise ValueError("retrain.keep: best might choose an epoch before weights went; use keep: last")
        return self


MaskingSchedule = Annotated[OneShot | Rounds | Cubic, Field(discriminator="kind")]


class SparsifyOptions(Method):
    """The options of masking weights; ``sparsify`` is the method that acts on them."""

    score: Literal["magnitude", "random", "sipp", "hydra"] = "magnitude"
    """Importance of a weight: its size, chance, its share of what outputs answer (SiPP), or learned (Hydra)."""
    scope: Literal["global", "layer"] = "global"
    """Rank all weights of the model together, or take the same fraction of every layer."""
    sparsity: Sparsity | None = None
    """Fraction of the weights that goes."""
    pattern: Literal["2:4", "1:4"] | None = None
    """Weights that stay in each block of neighbouring inputs, in place of ``sparsity``; 2:4 is for TensorRT."""
    count: Literal["prunable", "all"] = "prunable"
    """Total that sparsity is a fraction of: the weights that may go, or all parameters, as in Lost in Pruning."""
    when: MaskingSchedule = OneShot(kind="oneshot")
    """Schedule: all at once, in rounds with training between them, or while the model is trained."""
    learn: TrainOptions | None = None
    """The training of the scores, for ``score: hydra``."""
    normalise: bool = True
    """Divide SiPP's products by what the output answers, as its code does; its table in the paper does not."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """Training images that SiPP looks at; as many as its bound asks for when left out."""
    min_density: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of its weights that every layer keeps at least with ``scope: global``, so that none is lost."""
    exclude: tuple[str, ...] = ()
    """Layers that stay whole, as name patterns: ``conv1``, ``*.downsample``."""
    repair: bool | RepairOptions | None = None
    """Refit what is left to what layers answered before, without training: on with ``when: oneshot`` unless false."""
    recalibrate: bool = False
    """Give batch norms the statistics of 1,024 training images afterwards, with ``repair: false`` only."""
    strict: bool = False
    """Fail, rather than warn, where a layer is masked to nothing or does not fit a pattern."""

    @model_validator(mode="after")
    def _says_how_much(self) -> Self:
        ratios = isinstance(self.when, Rounds) and self.when.ratios is not None
        given = [name for name in ("sparsity", "pattern") if getattr(self, name) is not None]
        given += ["when.ratios"] if ratios else []
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of sparsity, pattern and when.ratios, not {' and '.join(given) or 'none'}"
            )
        if isinstance(self.when, Cubic) and self.when.initial >= (self.sparsity or 1.0):
            raise ValueError(f"when.initial ({self.when.initial:g}) must lie below sparsity ({self.sparsity:g})")
        return self

    @model_validator(mode="after")
    def _says_nothing_in_vain(self) -> Self:
        """Options that nothing would ask for in this combination are mistakes, not wishes."""
        for wrong, text in (*self._of_scores(), *self._of_patterns(), *self._of_schedules()):
            if wrong:
                raise ValueError(text)
        return self

    def _of_scores(self) -> list[tuple[bool, str]]:
        hydra = self.score == "hydra"
        return [
            (not self.normalise and self.score != "sipp", "normalise belongs to score: sipp; leave it out"),
            (self.samples is not None and self.score != "sipp", "samples belongs to score: sipp; leave it out"),
            (self.learn is not None and not hydra, "learn belongs to score: hydra, whose scores are trained"),
            (hydra and self.learn is None, "score: hydra learns its scores: give learn, e.g. learn: {epochs: 20}"),
            (hydra and self.when.kind != "oneshot", "score: hydra learns for one sparsity; it goes with when: oneshot"),
            (hydra and self.scope != "layer", "score: hydra takes the same fraction of every layer; say scope: layer"),
            (hydra and self.count == "all", "score: hydra counts the weights of each layer; leave count out"),
            (
                bool(self.min_density) and self.scope == "layer",
                "min_density does nothing with scope: layer, where each layer keeps the same fraction; leave it out",
            ),
        ]

    def _of_patterns(self) -> list[tuple[bool, str]]:
        if self.pattern is None:
            return []
        several = not isinstance(self.when, OneShot) and getattr(self.when, "rounds", None) != 1
        return [
            (
                self.score == "hydra",
                "score: hydra learns a fraction of every layer, not a pattern; take another",
            ),
            (self.scope != "global", "scope does nothing with pattern, which chooses in each block; leave it out"),
            (bool(self.min_density), "min_density does nothing with pattern, which leaves weights in each block"),
            (self.count == "all", "count does nothing with pattern, which says what stays; leave it out"),
            (several, "pattern is made at once: use when: oneshot, or {kind: iterative, rounds: 1} to train after it"),
        ]

    def _of_schedules(self) -> list[tuple[bool, str]]:
        trained = not isinstance(self.when, OneShot)
        kind = self.when.kind
        return [
            (bool(self.repair) and trained, f"repair does nothing with when: {kind}, which trains what is left"),
            (self.recalibrate and trained, f"recalibrate does nothing with when: {kind}, which trains what is left"),
            (
                self.recalibrate and self.repairs is not None,
                "recalibrate undoes a repair: a repaired layer answers with less variance, and statistics taken anew "
                "blow that up again; leave it out, or add repair: false",
            ),
        ]

    def misplaced(self, promised: Collection[str]) -> str:
        """Binary weights are latent while they are trained, so none can be chosen then."""
        if "binary" not in promised or not isinstance(self.when, Cubic):
            return ""
        return (
            "when: cubic masks weights while the model is trained, and binary weights are latent then. Mask before "
            "they are made binary, or with when: oneshot or iterative."
        )

    @property
    def needs_labels(self) -> bool:
        """True for trainings that look at labels."""
        trained = not isinstance(self.when, OneShot) and self.when.retrain.needs_labels
        return trained or (self.learn is not None and self.learn.needs_labels)

    @property
    def promises(self) -> tuple[str, ...]:
        """Zeros, which later trainings keep."""
        return ("zeros",)

    @property
    def repairs(self) -> RepairOptions | None:
        """The options of the repair; None where there is none."""
        if not isinstance(self.when, OneShot) or self.repair is False:
            return None
        return self.repair if isinstance(self.repair, RepairOptions) else RepairOptions()

    @property
    def goes_back_to(self) -> int | None:
        """The update whose weights each round begins with; None where none are rewound."""
        rewinds = isinstance(self.when, Rounds) and self.when.rewind == "weights"
        return self.when.to if rewinds and isinstance(self.when, Rounds) else None

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes the trainings from the recipe; one that is rewound is the training that made the model."""
        found = {key: value for key, value in options.items() if value is not None}
        when, learn = found.get("when"), found.get("learn")
        if isinstance(when, Mapping):
            found["when"] = _with_training(when, recipe)
        return found | ({"learn": completed(learn, recipe)} if isinstance(learn, Mapping) else {})


def _with_training(when: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A raw schedule with its training: as given, or the one of the recipe where that is rewound."""
    retrain = when.get("retrain")
    if retrain is None and when.get("rewind", "none") != "none":
        retrain = _training_of(recipe.get("steps"))
    return {**when, "retrain": completed(retrain, recipe)} if isinstance(retrain, Mapping) else dict(when)


def _training_of(steps: Any) -> dict[str, Any]:
    """The raw options of the only train step of a recipe."""
    named = (step for step in (steps if isinstance(steps, list) else []) if isinstance(step, Mapping))
    trainings = [step["train"] or {} for step in named if "train" in step]
    if len(trainings) != 1 or not isinstance(trainings[0], Mapping):
        raise RequestError(
            f"rewind repeats the training that made the model, and this recipe has {len(trainings)} train steps: say "
            "which training in when.retrain"
        )
    return {key: value for key, value in trainings[0].items() if key != "snapshots"}
