"""What a model is asked for, from its named outputs to a score of each image. Torch-free."""

from edgecr.tasks.base import Answers, Outputs, Task, arrays, tasks
from edgecr.tasks.classification import CLASSIFICATION

__all__ = ["CLASSIFICATION", "Answers", "Outputs", "Task", "arrays", "tasks"]
