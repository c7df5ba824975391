"""The six standard tasks on PTB-XL."""

from ecg_hf.corpora.sources.ptbxl import PTBXL
from ecg_hf.tasks.base import Task

_SOURCE = "Strodthoff et al. 2021, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL"


def _task(name: str, label_set: str, num_outputs: int, num_records: tuple[int, int, int]) -> Task:
    labels = PTBXL.label_sets[label_set]
    return Task(name, "ptbxl", label_set, labels, num_outputs=num_outputs, num_records=num_records, source=_SOURCE)


ALL = _task("ptbxl_all", "statement", 71, (17_418, 2183, 2198))
DIAGNOSTIC = _task("ptbxl_diagnostic", "diagnostic", 44, (17_084, 2146, 2158))
FORM = _task("ptbxl_form", "form", 19, (7197, 901, 880))
RHYTHM = _task("ptbxl_rhythm", "rhythm", 12, (16_832, 2100, 2098))
SUBDIAGNOSTIC = _task("ptbxl_subdiagnostic", "subdiagnostic", 23, (17_084, 2146, 2158))
SUPERDIAGNOSTIC = _task("ptbxl_superdiagnostic", "superdiagnostic", 5, (17_084, 2146, 2158))
