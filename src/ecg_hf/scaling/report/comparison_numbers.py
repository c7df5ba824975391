"""Comparisons of a study, converted to values for JSON."""

from typing import Any

from ecg_hf.scaling.comparison.loss_to_loss import LossToLoss
from ecg_hf.scaling.comparison.multipliers import IsoLoss
from ecg_hf.scaling.report.contrasts import Contrast, Transfer


def pair_numbers(pair: Contrast) -> dict[str, Any]:
    """Returns the comparison of two cells as values for JSON, with its curves and its crossing."""
    return {
        "evaluation": list(pair.a.evaluation),
        "a": pair.a.name,
        "b": pair.b.name,
        "axis": pair.axis,
        "headline": pair.headline.as_dict() if pair.headline else None,
        "doubt": pair.doubt,
        "iso_loss": pair.iso.median.as_dict() if pair.iso else None,
        "iso_loss_curve": _curve(pair.iso),
        "joint_multiplier": pair.joint.estimate.as_dict() if pair.joint else None,
        "joint_p_value": pair.joint.p_value if pair.joint else None,
        "joint_delta_aicc": _plain(pair.joint.delta_aicc) if pair.joint else None,
        "joint_shared": pair.joint.shared if pair.joint else None,
        "compute_multiplier": pair.compute.median.as_dict() if pair.compute else None,
        "compute_curve": _curve(pair.compute),
        "grid_multiplier": pair.grid.median.as_dict() | vars(pair.grid) if pair.grid else None,
        "exponent_ratio": pair.ratio.as_dict() if pair.ratio else None,
        "crossover": str(pair.crossing) if pair.crossing else None,
        "crossover_numbers": {name: _plain(value) for name, value in vars(pair.crossing).items()}
        if pair.crossing
        else None,
        "test_to_test": _estimates(pair.paired),
        "test_to_test_flags": list(pair.paired.flags) if pair.paired else [],
        "test_to_test_collapse_p_value": pair.collapse.p_value if pair.collapse else None,
        "refused": pair.refused,
    }


def _estimates(law: LossToLoss | None) -> dict[str, Any] | None:
    return {name: value.as_dict() for name, value in law.estimates.items()} if law else None


def _curve(curve: IsoLoss | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    columns = {"loss": curve.levels, "ratio": curve.ratio, "low": curve.low, "high": curve.high}
    columns |= {"input_a": curve.inputs[0], "input_b": curve.inputs[1]}
    return {"at": dict(curve.at)} | {name: [_plain(float(v)) for v in values] for name, values in columns.items()}


def _plain(value: Any) -> Any:
    """Converts a value for JSON as `Estimate.as_dict` does: NaN to None, infinity to "inf" or "-inf"."""
    if not isinstance(value, float):
        return value
    return None if value != value else str(value) if abs(value) == float("inf") else value


def transfer_numbers(each: Transfer) -> dict[str, Any]:
    """Returns the relation between two losses of a cell as values for JSON, with the flags of its fits."""
    curve = each.joint.profile if each.joint else None
    return {
        "cell": each.y.name,
        "from": list(each.x.evaluation),
        "to": list(each.y.evaluation),
        "two_stage": _estimates(each.law),
        "joint": _estimates(each.joint),
        "joint_profile": {curve.name: [curve.low, curve.high, curve.open_low, curve.open_high]} if curve else None,
        "flags": {method: list(flags) for method, flags in each.flags.items()},
        "one_curve": each.collapse.collapses if each.collapse else None,
        "collapse_p_value": each.collapse.p_value if each.collapse else None,
        "kappa_n": each.collapse.kappa_n.as_dict() if each.collapse else None,
        "kappa_d": each.collapse.kappa_d.as_dict() if each.collapse else None,
        "elasticity": each.elasticity.as_dict() if each.elasticity else None,
        "refused": each.refused,
    }
