"""The weights of the best validation, each under the number of its step."""

import shutil
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from ecg_hf.checkpoints import partial_folder, seal
from ecg_hf.errors import EcgCheckpointError
from ecg_hf.pretraining import Pair


class BestWeights:
    """Folders `best-<step>` of a run.

    Args:
        root: The run's folder.
    """

    def __init__(self, root: Path):
        self.root = root

    def folder(self, step: int) -> Path:
        """Names the folder of a step."""
        return self.root / f"best-{step:08d}"

    def save(self, step: int, pair: Pair, weights: dict[str, Tensor]) -> None:
        """Writes weights as a model folder.

        Args:
            step: After which they were reached.
            pair: Whose they are.
            weights: Its state dict, whole.

        Raises:
            EcgCheckpointError: If they cannot be written.
        """
        try:
            partial = partial_folder(self.folder(step))
            pair.save_pretrained(partial, state_dict=weights)
            seal(partial, self.folder(step))
        except (OSError, SafetensorError) as error:
            raise EcgCheckpointError(
                f"the best weights could not be written to {self.folder(step)} ({error}); free some space, and resume"
            ) from error

    def keep(self, *steps: int | None) -> None:
        """Deletes those of all other steps."""
        kept = {self.folder(step) for step in steps if step is not None}
        for path in [*self.root.glob("best-*"), *self.root.glob(".best-*.partial")]:
            if path not in kept:
                shutil.rmtree(path)
