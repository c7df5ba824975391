"""The task on synthetic ECGs: all findings that the simulator can produce."""

from ecg_hf.tasks.base import Task

SYNTHETIC = Task(
    name="synthetic",
    corpus="synthetic",
    label_set="finding",
    labels=("AFIB", "BRADY", "CLBBB", "CRBBB", "LAD", "NORM", "PAC", "PVC", "STD", "STE", "TACHY"),
    source="ecg_hf.corpora.sources.synthetic",
)
