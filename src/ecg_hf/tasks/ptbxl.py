"""The six questions that are usually asked of PTB-XL."""

from ecg_hf.corpora.ptbxl import PTBXL
from ecg_hf.tasks.base import Task

_SOURCE = "Strodthoff et al. 2021, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL"


def _task(name: str, label_set: str) -> Task:
    return Task(name, "ptbxl", label_set, PTBXL.label_sets[label_set], source=_SOURCE)


ALL = _task("ptbxl_all", "statement")
DIAGNOSTIC = _task("ptbxl_diagnostic", "diagnostic")
FORM = _task("ptbxl_form", "form")
RHYTHM = _task("ptbxl_rhythm", "rhythm")
SUBDIAGNOSTIC = _task("ptbxl_subdiagnostic", "subdiagnostic")
SUPERDIAGNOSTIC = _task("ptbxl_superdiagnostic", "superdiagnostic")
