"""The eleven tasks on MIMIC-IV-ECG, as in study A: diagnoses, later events, patient data and measurements."""

from ecg_hf.tasks.base import Task, Vocabulary

_SOURCE = "arXiv:2605.12241, where one model answers all of them"
_ASKED = (("setting", "ecg_taken_in_ed"), ("diagnosis", ""))  # the same records for all tasks
_EVALUATED = (("setting", "first_ecg_of_stay"),)


def _diagnosis(name: str, rule: Vocabulary) -> Task:
    source = f"{_SOURCE}; 1,076 diagnoses in all, cardiac those of chapter IX of the ICD-10"
    return Task(
        name,
        "mimic_iv_ecg",
        "diagnosis",
        vocabulary=rule,
        required=_ASKED,
        required_to_evaluate=_EVALUATED,
        source=source,
    )


def _flags(label_set: str, num_outputs: int) -> Task:
    return Task(
        f"mimic_{label_set}",
        "mimic_iv_ecg",
        label_set,
        unlabelled="drop",
        vocabulary=Vocabulary(min_count=0),
        absent="unknown",
        required=_ASKED,
        required_to_evaluate=_EVALUATED,
        num_outputs=num_outputs,
        source=_SOURCE,
    )


def _values(label_set: str, num_outputs: int, trim: float = 0.0) -> Task:
    return Task(
        f"mimic_{label_set}",
        "mimic_iv_ecg",
        label_set,
        problem_type="regression",
        metric="pooled_mae",
        vocabulary=Vocabulary(min_count=0),
        required=_ASKED,
        required_to_evaluate=_EVALUATED,
        trim=trim,
        standardise=True,
        num_outputs=num_outputs,
        source=_SOURCE,
    )


CARDIAC = _diagnosis("mimic_cardiac", Vocabulary(min_count=2000, prefix="I"))
NON_CARDIAC = _diagnosis("mimic_non_cardiac", Vocabulary(min_count=2000, without_prefix="I"))
DETERIORATION = _flags("deterioration", 6)
MORTALITY = _flags("mortality", 7)
ICU = _flags("icu", 2)
SEX = _flags("sex", 1)
AGE = _values("age", 1)
BIOMETRICS = _values("biometrics", 3, trim=0.01)
ECG_FEATURES = _values("ecg_features", 7)
LAB_VALUES = _values("lab_values", 18, trim=0.01)
VITAL_SIGNS = _values("vital_signs", 6, trim=0.01)
