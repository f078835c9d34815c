"""Tasks: from the named outputs of a model to answers and a score of each image. Torch-free."""

from edgecr.tasks.base import Answers, Outputs, Task, arrays, tasks
from edgecr.tasks.classification import CLASSIFICATION

__all__ = ["CLASSIFICATION", "Answers", "Outputs", "Task", "arrays", "tasks"]
