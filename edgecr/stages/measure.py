"""Measures the exported files of a run on a device."""

from __future__ import annotations

from collections.abc import Sequence

from edgecr.core.progress import Monitor
from edgecr.run import Run
from edgecr.runners.base import Measurement, MeasurePlan, load_device, runner_for
from edgecr.runners.manner import USUAL, Manner
from edgecr.runners.measurement.completeness import shortfall
from edgecr.stages.asked import Asked, measure_stage, measurement_key
from edgecr.stages.engine_proof import proofs
from edgecr.stages.export import exports
from edgecr.stages.place import place_of


def measure(
    run: Run,
    device_name: str,
    target: str,
    batches: Sequence[int] | None,
    monitor: Monitor,
    *,
    launches: int | None = None,
    rounds: int | None = None,
    manner: Manner = USUAL,
) -> Measurement:
    """Measures baseline and candidate interleaved on one device; what is there already is not measured again.

    Only with the recipe's device, target, batch sizes and protocol is the result the run's; any other is kept beside.
    """
    device, asked, files = load_device(device_name), Asked.of(run), exports(run, target)
    recipe = asked.recipe.measure.batch
    batches = recipe if batches is None or set(batches) == set(recipe) else tuple(batches)
    key = measurement_key(device, batches, launches, rounds, files.hashes, manner)
    own = (
        batches == recipe
        and launches is None
        and rounds is None
        and manner.usual
        and target in asked.names
        and device.plain() in [each.plain() for each in asked.devices]
    )
    place = place_of(
        run, measure_stage(device.name, target), run.measurement(device.name, target), key, own, files, monitor
    )
    if run.finished(place.stage, key):
        known = Measurement.load(place.path)
        if not shortfall(known):
            return known
    runtime = device.runtime_name(*files.runtimes)
    plan = MeasurePlan.of(
        files.paths,
        batches,
        runtime,
        launches=launches,
        rounds=rounds,
        beside=files.beside,
        proofs=proofs(files.artifacts),
        manner=manner,
    )
    monitor.say(f"Measuring {target} on {device.name}" if len(asked.names) > 1 else f"Measuring on {device.name}")
    measurement = runner_for(device).measure(plan, monitor)
    measurement.save(place.path)
    run.finish(place.stage, key, [place.path])
    return measurement
