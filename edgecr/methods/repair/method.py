"""Repair without training: the layers of a pruned model are refitted to what the baseline answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgecr.methods.base import Method, methods
from edgecr.surgery.repair.options import RepairOptions
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("repair")
class Repair(RepairOptions, Method):
    """Refit the layers of a pruned model to the baseline's answers, in closed form: no labels, no training."""

    compresses: ClassVar[bool] = True
    reads_baseline: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("repair",)

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Refits the subject's own layers in place; what each of them gained is told and recorded."""
        from edgecr.methods.repair.step import check_only_cut, repaired

        baseline = context.baseline()
        check_only_cut(baseline, subject)
        return repaired(baseline, subject, self, context)
