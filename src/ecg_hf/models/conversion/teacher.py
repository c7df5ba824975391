"""Diagnoses whether the teacher in one of study A's checkpoints ever followed its student.

Study A is arXiv:2605.12241; "study A's code" is the code it published, its checkpoints are files that this code wrote.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.conversion.layout import plain_names

FOLLOWS = 0.9  # correlation above which one network counts as a moving average of the other
_STATE_SPACE = ("D", "log_dt", "C")


@dataclass(frozen=True)
class TeacherDiagnosis:
    """A comparison of a teacher's tensors with its student's.

    Args:
        verdict: Verdict on the teacher: "follows", "independent" or "unclear".
        correlations: Pearson correlations by group of tensors of stem and layers: "D", "log_dt" and "C" of all state
            spaces, and "weights", all linear maps and convolutions. A group of constants has no correlation.
        num_values: Number of pairs of values behind each correlation.
    """

    verdict: str
    correlations: dict[str, float]
    num_values: dict[str, int]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {r:+.3f} (n={self.num_values[name]})" for name, r in self.correlations.items())
        meaning = {
            "follows": "the teacher is an average of the student",
            "independent": "the teacher is another random network, which copy and update never reached",
            "unclear": "the teacher is neither an average of the student nor an unrelated network",
        }
        return f"{self.verdict}: {meaning[self.verdict]}; correlation with the student: {numbers or 'none'}"


def diagnose_teacher(state_dict: Mapping[str, Tensor]) -> TeacherDiagnosis:
    """Diagnoses by correlations whether a teacher follows its student.

    A teacher that was copied from the student once and updated ever since has almost the student's values, and exactly
    its random steps log_dt. A teacher that neither copy nor update reached has a correlation of zero, within three
    standard errors.

    Args:
        state_dict: Tensors of study A's checkpoint of an objective with a teacher, by name.

    Returns:
        The correlations and the verdict.

    Raises:
        EcgCheckpointError: If there is no teacher, or teacher and student differ in names or shapes.

    Source:
        Study A (arXiv:2605.12241), whose code renames no tensor on the way from student to teacher.
    """
    groups = _pair_up(plain_names(state_dict))
    correlations = {name: _correlate(*values) for name, values in sorted(groups.items())}
    known = {name: r for name, r in correlations.items() if not math.isnan(r)}
    sizes = {name: len(groups[name][0]) for name in known}
    if known and min(known.values()) > FOLLOWS:
        verdict = "follows"
    elif known and all(abs(r) < _noise(sizes[name]) for name, r in known.items()):
        verdict = "independent"
    else:
        verdict = "unclear"
    return TeacherDiagnosis(verdict, known, sizes)


def _noise(num_values: int) -> float:
    # Three standard errors, and 0.1 for what unrelated networks have in common, such as a trend over training.
    return min(0.1 + 3 / math.sqrt(num_values), FOLLOWS)


def _pair_up(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, teacher in tensors.items():
        own = name.removeprefix("ema.")
        if own == name or not own.startswith(("encoder.", "predictor.")):
            continue
        if own not in tensors or tensors[own].shape != teacher.shape:
            found = tuple(tensors[own].shape) if own in tensors else "none"
            raise EcgCheckpointError(f"expected the student's {own} of shape {tuple(teacher.shape)}, got {found}")
        last = own.rpartition(".")[2]
        if last in _STATE_SPACE or (last == "weight" and teacher.dim() > 1):
            group = last if last in _STATE_SPACE else "weights"
            pairs.setdefault(group, []).append((teacher.double(), tensors[own].double()))
    if not pairs:
        raise EcgCheckpointError(
            "expected tensors of a teacher, ema.encoder. and ema.predictor., got none; cpc has no teacher"
        )
    return {
        name: (torch.cat([a.flatten() for a, _ in listed]), torch.cat([b.flatten() for _, b in listed]))
        for name, listed in pairs.items()
    }


def _correlate(first: Tensor, second: Tensor) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = first.norm() * second.norm()
    return float(first @ second / scale) if scale > 0 else math.nan
