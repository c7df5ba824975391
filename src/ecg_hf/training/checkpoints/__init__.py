"""Checkpoints of a pretraining run, which survive a kill at any moment.

A checkpoint is a folder `step-<n>` with the weights, the optimizer state and the progress of the run, and with a
manifest of SHA-256 hashes. A snapshot copies the tensors to host memory; a thread then writes them beside the older
checkpoints, hashes them, and renames the folder once it is on the disk. A run resumes from the newest checkpoint whose
files match its manifest. With early stopping, the best weights so far lie in a folder `best-<step>` of the same kind.

In reading order:

- `snapshot`: copies of a model and its optimizer in host memory, gathered from all shards.
- `writer`: the thread that writes one checkpoint at a time.
- `folder`: sealing, verifying, finding and deleting folders of checkpoints and of best weights.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from ecg_hf.training.checkpoints.folder import newest_checkpoint
    >>> from ecg_hf.training.checkpoints.snapshot import Snapshot
    >>> from ecg_hf.training.checkpoints.writer import CheckpointWriter
    >>> model = torch.nn.Linear(2, 1)
    >>> snapshot = Snapshot(model, torch.optim.AdamW(model.parameters()))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with CheckpointWriter(Path(folder), num_kept=2) as writer:
    ...         writer.submit(1, snapshot.take(), {"step": 1})
    ...     checkpoint = newest_checkpoint(Path(folder))
    ...     files = sorted(path.name for path in checkpoint.iterdir())
    >>> checkpoint.name, files
    ('step-00000001', ['manifest.json', 'model.safetensors', 'optimizer.safetensors', 'state.json'])
"""
