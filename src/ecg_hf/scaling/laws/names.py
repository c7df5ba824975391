"""The forms of scaling law by name, `LAWS`."""

from ecg_hf.scaling.laws.base import Frame, Law
from ecg_hf.scaling.laws.broken import Broken
from ecg_hf.scaling.laws.kaplan import Kaplan
from ecg_hf.scaling.laws.power_laws import PowerLaws
from ecg_hf.scaling.laws.repeated import Repeated
from ecg_hf.scaling.laws.saturating import Saturating
from ecg_hf.scaling.laws.shifted import Shifted

__all__ = ["LAWS", "Frame", "Law", "get"]

_N, _D, _K = ("A", "alpha", 0), ("B", "beta", 1), ("C_K", "gamma", 2)

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        PowerLaws("pow", "L = A N^-alpha", ("N",), (_N,), constant=False),
        PowerLaws("pow+E", "L = E + A N^-alpha", ("N",), (_N,), constant=True),
        PowerLaws("chinchilla", "L = E + A N^-alpha + B D^-beta", ("N", "D"), (_N, _D), constant=True),
        PowerLaws("tied", "L = E + A N^-alpha + B D^-alpha", ("N", "D"), (_N, ("B", "alpha", 1)), constant=True),
        Kaplan(),
        Saturating(),
        Repeated(),
        PowerLaws(
            "labels",
            "L = E + A N^-alpha + B D^-beta + C_K K^-gamma",
            ("N", "D", "K"),
            (_N, _D, _K),
            constant=True,
        ),
        Broken(),
        Shifted(),
    )
}


def get(name: str) -> Law:
    """Returns a form of scaling law.

    Args:
        name: Name of the form, a key of `LAWS`.

    Returns:
        The law.

    Raises:
        KeyError: If there is no such form.
    """
    if name not in LAWS:
        raise KeyError(f"{name!r} is not a form of scaling law; choose one of {sorted(LAWS)}")
    return LAWS[name]
