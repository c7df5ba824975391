"""Reads the files of study A's checkpoints without running any code that is in them.

Study A is arXiv:2605.12241; its checkpoints are files that its published code wrote.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from ecg_hf.errors import EcgCheckpointError

# An error message shows these lines to the user. They may run any code in the file, so the library never runs them.
_RECIPE = (
    "state = torch.load({path!r}, 'cpu', weights_only=0)['state_dict']",
    "torch.save({{name: tensor for name, tensor in state.items()}}, {saved!r})",
)


def load_study_a(path: Path | str) -> dict[str, Tensor]:
    """Reads the tensors of one of study A's checkpoints.

    Args:
        path: Path of a .safetensors file, or of a file that torch.save wrote: a dict of tensors, either by itself or
            as the entry "state_dict" of another dict.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        EcgCheckpointError: If code would have to run to read the file, as for a Lightning checkpoint whose
            hyper-parameters are OmegaConf objects; if the file is damaged; or if it does not hold tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint, got {path}, where there is no file")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickled(path)
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not tensors or not all(isinstance(name, str) for name in tensors):
        raise EcgCheckpointError(f"expected tensors by name in {path}, got {_describe(tensors)}")
    others = {name: type(value).__name__ for name, value in tensors.items() if not isinstance(value, Tensor)}
    if others:
        raise EcgCheckpointError(
            f"expected nothing but tensors in {path}, got {dict(list(others.items())[:3])}; save its state_dict alone"
        )
    return dict(tensors)


def _describe(value: Any) -> str:
    return f"{sorted(map(str, value))[:3]}" if isinstance(value, Mapping) else type(value).__name__


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise EcgCheckpointError(f"expected a safetensors file, got {path}: {error}; copy it again") from error


def _load_pickled(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise EcgCheckpointError(
            f"expected a file that torch.save wrote (since torch 1.6), got {path}, which is not one; copy it again, or "
            "save it again with a recent torch"
        )
    try:
        classes = sorted(get_unsafe_globals_in_checkpoint(path))
        if not classes:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything; torch documents no set of exceptions
        text = str(error).partition("\n")[0]
        raise EcgCheckpointError(
            f"expected a whole checkpoint of tensors alone, got {path}, for which torch reports {text!r}; copy it again"
        ) from error
    saved = str(path.with_suffix(".tensors.ckpt"))
    lines = "; ".join(_RECIPE).format(path=str(path), saved=saved)
    raise EcgCheckpointError(
        f"expected tensors alone in {path}, got objects of {classes[:4]}, which could run any code when they are "
        f"read; on a machine that holds nothing of value and has the packages of these classes, run `import torch; "
        f"{lines}` and convert {saved} instead"
    )
