"""The options of sharpness-aware training. Torch-free: recipes are checked with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from edgecr.core.options import Options, chosen_by
from edgecr.core.registry import Registry

Radius = Annotated[float, Field(ge=0)]
Kind = Literal["sam", "asam", "adasap"]

_LARGEST = {"sam": 0.1, "asam": 2.0}


class Sharpness(Options):
    """Updates with the gradient at the worst point nearby, so that training ends in a flat minimum."""

    kind: Kind
    """Shape of the neighbourhood in which the worst point is searched for."""

    @property
    def epochs(self) -> int:
        """Least number of training epochs that the settings need."""
        return 1


kinds: Registry[type[Sharpness]] = Registry("kind of sharpness")
"""The neighbourhoods by name."""


@kinds.register("sam")
class Sam(Sharpness):
    """One ball around all weights together (Foret et al. 2021)."""

    kind: Literal["sam"]
    """Shape of the neighbourhood in which the worst point is searched for."""
    rho: Radius = 0.05
    """Radius of the ball; 0 trains as without it."""


@kinds.register("asam")
class Asam(Sharpness):
    """A ball stretched by each weight's size, so that scaling layers changes nothing (Kwon et al. 2021)."""

    kind: Literal["asam"]
    """Shape of the neighbourhood in which the worst point is searched for."""
    rho: Radius = 0.5
    """Radius of the ball, before it is stretched; 0 trains as without it."""
    eta: Radius = 0.01
    """Constant that is added to the size of each weight, so that small weights move too."""


class Bounds(NamedTuple):
    """The smallest and the largest radius of any neuron."""

    smallest: float
    largest: float


class Phase(Options):
    """Bounds of the radii that hold for some epochs."""

    epochs: Annotated[int, Field(ge=1)]
    """Number of epochs that the phase lasts."""
    rho_min: Radius
    """Radius of the most important neuron."""
    rho_max: Radius
    """Radius of the least important neuron."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_order(self.rho_min, self.rho_max)
        return self


@kinds.register("adasap")
class AdaSap(Sharpness):
    """A ball for each neuron, large for those that pruning will take first (Bair et al. 2024)."""

    kind: Literal["adasap"]
    """Shape of the neighbourhood in which the worst point is searched for."""
    flavour: Literal["sam", "asam"] = "asam"
    """Round balls, or balls that are stretched by the size of each weight."""
    rho_min: Radius = 0.01
    """Radius of the most important neuron, after the phases."""
    rho_max: Radius | None = None
    """Radius of the least important neuron, after the phases; 2.0 for asam and 0.1 for sam when left out."""
    phases: tuple[Phase, ...] = ()
    """Other bounds for the first epochs, one phase after the other."""
    eta: Radius | None = None
    """Constant that asam adds to the size of each weight, so that small weights move too; 0.01 when left out."""
    scope: Literal["global", "layer"] = "global"
    """Neurons that each one is compared with: those of all layers, or those of its own layer."""
    include_bn: bool = False
    """Move a neuron's bias and batch-norm scale and shift with it; otherwise they stay."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_order(self.rho_min, self.largest)
        if self.flavour == "sam" and self.eta is not None:
            raise ValueError("eta belongs to flavour: asam, but flavour is sam")
        return self

    @property
    def largest(self) -> float:
        """The radius of the least important neuron, the flavour's own one when none was given."""
        return _LARGEST[self.flavour] if self.rho_max is None else self.rho_max

    @property
    def stretch(self) -> float:
        """The constant that asam adds to the size of each weight."""
        return 0.01 if self.eta is None else self.eta

    @property
    def epochs(self) -> int:
        """All phases together."""
        return sum(phase.epochs for phase in self.phases)

    def bounds(self, epoch: int) -> Bounds:
        """The bounds of an epoch, counted from 0."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return Bounds(phase.rho_min, phase.rho_max)
            epoch -= phase.epochs
        return Bounds(self.rho_min, self.largest)


def _check_order(smallest: float, largest: float) -> None:
    if smallest > largest:
        raise ValueError(f"rho_min ({smallest:g}) must not exceed rho_max ({largest:g})")


def _with_defaults(name: str) -> Sharpness:
    """Returns the settings that a bare name stands for: the defaults of that kind."""
    return kinds.get(name).parse({"kind": name})


def _form(value: Any) -> str:
    return "name" if isinstance(value, str) else "settings"


if TYPE_CHECKING:
    AnySharpness = Sharpness
else:
    _NAME = Annotated[Kind, AfterValidator(_with_defaults), Tag("name")]
    _SETTINGS = Annotated[chosen_by("kind", [kinds.get(n) for n in kinds], kinds.get), Tag("settings")]
    AnySharpness = Annotated[_NAME | _SETTINGS, Discriminator(_form)]
    """The field type of declared sharpness: a kind's name, or its settings."""
