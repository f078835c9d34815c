"""A trained model and a folder of images in, a faster file and its verdict out: no training, no labels needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecr.api.runs import RUNS, AnyPath, Compressed, compress

if TYPE_CHECKING:
    from edgecr.core.progress import Monitor

RECIPE = "quick/shrink"
IMAGENET = 1000
"""Classes of the published weights."""
SLACK = 1.1
"""Factor on the asked latency within which the exported file must be, measured beside the baseline."""


def shrink(
    model: str | Mapping[str, Any],
    images: AnyPath,
    *,
    latency: float | str = 0.5,
    weights: AnyPath | None = None,
    classes: int | None = None,
    size: int | Sequence[int] | None = None,
    agreement: float = 0.9,
    devices: Sequence[str] = ("cpu",),
    runs: AnyPath = RUNS,
    threads: int = 0,
    allow_code: bool = False,
    quiet: bool = False,
    monitor: Monitor | None = None,
) -> Compressed:
    """Prunes a trained model for a latency by measured loss, repairs, exports and judges it, as ``edgecr shrink`` does.

    ``model`` is the name of an architecture or a recipe's ``model`` section; ``images`` a folder of images like those
    of its use, with or without class folders. ``latency`` is a fraction of the model's own, or a time such as
    ``"3 ms"``. Without ``weights`` the published ones of torchvision or timm are fetched. The file ships when it
    chooses as the model does on at least the ``agreement`` of held-out images, and keeps the latency.
    """
    from edgecr.core.errors import RequestError
    from edgecr.models import architecture

    section = _model(model, weights, classes)
    declared = architecture(section)
    if not declared.starts_trained:
        raise RequestError(f"{declared.arch} is not trained: give the checkpoint of a trained model as weights.")
    changes: dict[str, Any] = {
        "name": f"shrink-{Path(str(images)).resolve().name}",
        "model": section,
        "data.root": os.fspath(images),
        "steps.0.prune.budget": {"latency": latency},
        "gates": {"agreement": {"min": agreement}, "latency_p50": _limit(latency)},
    }
    side = declared.usual_side if size is None else size
    changes["data.size"] = side if isinstance(side, int) else list(side)
    overrides = [f"{key}={json.dumps(value, default=os.fspath)}" for key, value in changes.items()]
    return compress(
        RECIPE,
        overrides=overrides,
        devices=devices,
        runs=runs,
        threads=threads,
        allow_code=allow_code,
        quiet=quiet,
        monitor=monitor,
    )


def _model(given: str | Mapping[str, Any], weights: AnyPath | None, classes: int | None) -> dict[str, Any]:
    """The recipe's model section; without weights of its own a model of a library has the published ones."""
    from edgecr.models.external import source_of

    section: dict[str, Any] = {"arch": given} if isinstance(given, str) else dict(given)
    if weights is not None:
        section["weights"] = os.fspath(weights)
    if classes is not None:
        section["classes"] = classes
    if "weights" not in section and source_of(str(section.get("arch"))) in ("torchvision", "timm"):
        section = {"pretrained": True, "classes": IMAGENET} | section
    return section


def _limit(latency: float | str) -> dict[str, float]:
    """The gate on the latency: of the baseline's, or in milliseconds."""
    from pydantic import ValidationError

    from edgecr.core.errors import RequestError
    from edgecr.methods.prune.options import Budget
    from edgecr.surgery.planning.amounts import LATENCY

    try:
        asked = Budget.parse({"latency": latency}).shares()[LATENCY]
    except ValidationError as error:
        raise RequestError(
            f"latency {latency!r}: give a fraction between 0 and 1, or a time such as '3 ms'."
        ) from error
    return {"max": asked / 1e6 * SLACK} if isinstance(asked, int) else {"ratio": round(asked * SLACK, 4)}
