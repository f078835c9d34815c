"""Building torchvision's and timm's models, and fetching their published weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision
from torch import nn

from edgecr.core.errors import FileProblem, RequestError, UnknownName

# Auxiliary heads only help a training recipe that EdgeCR does not have, and would be exported and counted.
_DEFAULTS = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
# Published weights of these expect inputs that the model itself turns into another normalisation first.
_WITH_PUBLISHED = {"googlenet": {"transform_input": True}, "inception_v3": {"transform_input": True}}


def torchvision_model(name: str, classes: int, options: Mapping[str, Any], *, published: bool = False) -> nn.Module:
    """A freshly initialised classification model of torchvision, as its published weights need it if they follow."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UnknownName("torchvision model", name, known)
    construct = torchvision.models.get_model_builder(name)
    needed = _WITH_PUBLISHED.get(name, {}) if published else {}
    return called(f"torchvision:{name}", construct, classes, _DEFAULTS.get(name, {}) | needed | dict(options))


def timm_model(name: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """A freshly initialised model of timm."""
    import timm

    if not timm.is_model(name):
        raise UnknownName("timm model", name, timm.list_models())

    def construct(**arguments: Any) -> Any:
        return timm.create_model(name, pretrained=False, **arguments)

    return called(f"timm:{name}", construct, classes, options)


def called(arch: str, construct: Callable[..., Any], classes: int, options: Mapping[str, Any]) -> nn.Module:
    """The module that a constructor returns; options that it does not take are the request's mistake."""
    given = {"num_classes": classes, **options}
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    try:
        module = construct(**given)
    except (TypeError, ValueError) as error:
        raise RequestError(f"The model {arch} cannot be built: called with {arguments}, it says: {error}") from error
    if not isinstance(module, nn.Module):
        raise RequestError(f"The model {arch} gave a {type(module).__name__}, not a torch.nn.Module.")
    return module


def fetch_weights(source: str, name: str, options: Mapping[str, Any], module: nn.Module) -> tuple[str, ...]:
    """Copies published weights into a module; a classifier of another size stays fresh, and its names are returned."""
    with torch.random.fork_rng(devices=[]):
        published = _published(source, name, options)
    own = module.state_dict()
    fitting = {key: value for key, value in published.items() if key in own and value.shape == own[key].shape}
    module.load_state_dict(fitting, strict=False)
    return tuple(key for key in own if key not in fitting)


def _without_network(source: str, name: str) -> str:
    """Returns the advice for a machine without a network."""
    if source == "torchvision":
        url = torchvision.models.get_model_weights(name)["DEFAULT"].url
        return f"Without a network, download {url} elsewhere and put it into {torch.hub.get_dir()}/checkpoints."
    return "Without a network, download them elsewhere and give them as weights: PATH."


def _published(source: str, name: str, options: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The state of the library's pretrained model; it is downloaded once into the library's own cache."""
    try:
        if source == "torchvision":
            model = torchvision.models.get_model(name, weights="DEFAULT", progress=False, **options)
        else:
            import timm

            model = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # each library and its HTTP client raise kinds of their own
        raise FileProblem(
            f"The published weights of {source}:{name} cannot be fetched ({type(error).__name__}: {error}). "
            + _without_network(source, name)
        ) from error
    state: dict[str, torch.Tensor] = model.state_dict()
    return state
