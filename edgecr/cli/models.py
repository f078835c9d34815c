"""``edgecr models``: what an architecture costs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from edgecr.cli.echo import echo
from edgecr.cli.listing import group, lists
from edgecr.cli.options import AllowCode, Classes, ModelName, Settings, Size, named_subject

models_app = group("models", "List architectures and show what they cost.")


@lists(models_app)
def list_models() -> None:
    """The architectures EdgeCR itself knows; torchvision:NAME and timm:NAME work too."""
    from edgecr.models import families

    longest = max(map(len, families))
    for name in families:
        echo(f"{name:<{longest}} {(families.get(name).__doc__ or '').strip().splitlines()[0]}")


@models_app.command("show")
def show_model(
    name: ModelName,
    options: Settings = None,
    classes: Classes = 10,
    size: Size = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every convolution and linear layer too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Parameters, multiply-accumulates and size of an architecture."""
    from edgecr.surgery.counters import count

    subject = named_subject(name, options, classes, size, allow_code)
    figures, shape = count(subject.module, subject.input_shape), subject.input_shape
    if as_json:
        echo(json.dumps({"arch": name, "input": shape, **figures.plain()}, indent=2))
        return
    echo(
        f"{name} at {shape[1]}x{shape[2]}: {figures.params:,} parameters, {figures.macs:,} MACs "
        f"({figures.macs / 1e9:.4f} G), {figures.size_bytes / 1e6:.3f} MB"
    )
    for layer in figures.layers if layers else []:
        weights = "x".join(str(part) for part in layer.weight_shape)
        echo(f"  {layer.name:<36} {layer.kind:<8} {weights:<16} {layer.macs:>14,} MACs")
