"""Tensors in files: safetensors of our own, and users' checkpoints, of which no code is ever executed."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from edgecr.core.errors import FileProblem
from edgecr.core.files import write_bytes

_SHARED = "edgecr.shared"
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "state_dict_ema",
    "model_ema",
    "ema",
    "net",
)
_PREFIXES = ("module.", "_orig_mod.")
_LISTED = 10


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Writes tensors atomically; one that has several names is stored once, under the first."""
    first: dict[tuple[Any, ...], str] = {}
    shared, stored = {}, {}
    for name in sorted(state):
        tensor = state[name].detach()
        owner = first.setdefault(_identity(tensor), name) if tensor.numel() else name
        if owner == name:
            stored[name] = tensor.cpu().contiguous().clone()
        else:
            shared[name] = owner
    notes = {_SHARED: json.dumps(shared, sort_keys=True)} if shared else None
    write_bytes(path, safetensors.torch.save(stored, notes))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file; tensors that were stored once for several names get them all back."""
    _must_be_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            shared = json.loads((file.metadata() or {}).get(_SHARED, "{}"))
            return state | {name: state[owner] for name, owner in shared.items()}
    except (safetensors.SafetensorError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise FileProblem(f"{path} is no whole safetensors file: {error}. Copy or fetch it again.") from error


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a user's checkpoint by plain names, whichever of the usual forms it has."""
    _must_be_file(path)
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        content: Any = read_tensors(path)
    elif head[:2] == b"PK" or head[:1] == b"\x80":
        content = _read_torch(path)
    else:
        raise FileProblem(f"{path} is no checkpoint: it is neither a safetensors nor a torch file.")
    return _plain_names(_unwrapped(content, path))


def load_into(module: nn.Module, path: Path) -> None:
    """Loads a checkpoint that must fit the module exactly; one error lists everything that does not."""
    given, own = load_checkpoint(path), module.state_dict()
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in own]
    different = [key for key in own if key in given and given[key].shape != own[key].shape]
    if missing or unexpected or different:
        shapes = [f"{key} (file {_shape(given[key])}, model {_shape(own[key])})" for key in different]
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        lines = [_listed(kind, keys) for kind, keys in kinds.items() if keys]
        explained = _other_classes(given, own, different)
        raise FileProblem("\n".join([f"{path} does not fit the model.", *lines, *explained]))
    module.load_state_dict(given, strict=False)


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names, types, shapes and values, in hex; the order of the names does not matter."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for two names of one tensor, different for two views of one memory."""
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _must_be_file(path: Path) -> None:
    if path.is_dir():
        raise FileProblem(f"{path} is a folder; name the checkpoint file in it.")
    if not path.is_file():
        raise FileProblem(f"{path} does not exist.")


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # of pickle protocols that read well all the same
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileProblem(
            f"{path} holds Python objects besides tensors; loading them could run code, so EdgeCR does not. "
            "Where you trust it, save the plain tensors: torch.save(model.state_dict(), PATH)."
        ) from error
    except Exception as error:  # a damaged file can fail in any part of the reader
        reason = str(error).partition(". ")[0].partition("\n")[0] or "it ends too early"
        raise FileProblem(f"{path} is damaged or truncated: {reason}. Copy or fetch it again.") from error


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The mapping of names to tensors inside the usual wrappers."""
    while isinstance(content, Mapping):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    entries = content if isinstance(content, Mapping) else {type(content).__name__: content}
    tensors = {str(key): value.detach() for key, value in entries.items() if isinstance(value, Tensor)}
    if not tensors or entries is not content:
        found = ", ".join(map(str, list(entries)[:_LISTED])) or "nothing"
        raise FileProblem(f"{path} holds no tensors by name (found: {found}). Save model.state_dict().")
    return tensors


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what DataParallel, compile and weight averaging put before every one of them."""
    state = {key: value for key, value in state.items() if key != "n_averaged"}
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in state) and state), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "scalar"


def _listed(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"  {len(keys)} {what}: " + ", ".join(keys[:_LISTED]) + more


def _other_classes(given: Mapping[str, Tensor], own: Mapping[str, Tensor], different: list[str]) -> list[str]:
    """The likely reason when only one layer differs, and only in how many outputs it has."""
    outputs = {(given[key].shape[:1], own[key].shape[:1]) for key in different}
    layers = {key.rpartition(".")[0] for key in different}
    inputs_differ = any(given[key].shape[1:] != own[key].shape[1:] for key in different)
    if len(layers) != 1 or len(outputs) != 1 or inputs_differ:
        return []
    [(theirs, ours)] = outputs
    return [f"  The file is for {theirs[0]} classes, the model for {ours[0]}: see its key 'classes'."]
