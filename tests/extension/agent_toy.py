"""The runtime of toy files on a board: what a user would write beside their own format; Python 3.6 and later."""

from typing import Any

from .base import RuntimeProblem
from .ort import Ort

HEADER = b"TOY\n"


class Toy(Ort):
    """Takes the wrapping off, and runs the graph inside; its weights lie in the second file."""

    @staticmethod
    def on_processor(config: dict[str, Any]) -> bool:
        """True: there is nothing else that it runs on."""
        return True

    def __init__(self, path: str, config: dict[str, Any], batch: int) -> None:
        with open(path, "rb") as file:
            content = file.read()
        if not content.startswith(HEADER):
            raise RuntimeProblem("This is no toy file.")
        with open(path + ".onnx", "wb") as file:
            file.write(content[len(HEADER) :])
        settings = {"threads": config["threads"], "spin": False, "providers": ["CPUExecutionProvider"]}
        Ort.__init__(self, path + ".onnx", settings, batch)
        self.info = {"runtime": "toy", "version": "1", "colour": config["colour"]}


RUNTIME = Toy
