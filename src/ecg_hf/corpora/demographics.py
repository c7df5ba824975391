"""The comments of the Challenge's headers: age, sex and SNOMED codes, in the spellings of all its releases."""

import re
from collections.abc import Collection, Mapping

from ecg_hf.errors import EcgFormatError

SEXES = {"male": "male", "m": "male", "female": "female", "f": "female", "unknown": None, "nan": None, "": None}
NO_AGE = ("nan", "unknown", "", "-1")
NO_CODE = ("nan", "unknown", "")


def parse_comments(header: bytes, name: str) -> dict[str, str]:
    """Reads the comments "Age: 56" of a header, with or without a blank after their mark.

    Returns:
        What is said of age, sex, dx and whatever else, by its name in lower case.

    Raises:
        EcgFormatError: If age, sex or dx is missing, or anything is said twice.
    """
    lines = (line.strip() for line in header.decode("utf-8", "backslashreplace").splitlines())
    pairs = [line[1:].partition(":") for line in lines if line.startswith("#")]
    said = {key.strip().lower(): value.strip() for key, _, value in pairs}
    if len(said) < len(pairs) or not {"age", "sex", "dx"} <= said.keys():
        raise EcgFormatError(
            f"{name}: expected comments of Age, Sex and Dx, each once, got {[key for key, *_ in pairs]}; "
            "download the header again"
        )
    return said


def parse_codes(text: str, name: str, known: Collection[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """Reads a list of SNOMED codes such as "164889003,59118001"; some headers repeat one or leave a place empty.

    Args:
        text: The list.
        name: The record's, for messages.
        known: The codes that have a meaning.
        words: What may stand for a code.

    Raises:
        EcgFormatError: If a code is not known.
    """
    items = [] if text.lower() in NO_CODE else [item.strip() for item in text.split(",")]
    codes = tuple(dict.fromkeys(words.get(item, item) for item in items if item))
    if unknown := [code for code in codes if code not in known]:
        raise EcgFormatError(
            f"{name}: expected diagnoses that its source is known to use, got {unknown[:5]}; "
            "download the current version, or report them"
        )
    return codes


def labels_of(codes: Collection[str], names: Mapping[str, str]) -> tuple[tuple[str, str, float], ...]:
    """Lists codes as labels, and what they mean, each once."""
    meanings = dict.fromkeys(names[code] for code in codes)
    return (*(("snomed", code, 1.0) for code in codes), *(("diagnosis", meaning, 1.0) for meaning in meanings))


def label_sets_of(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Lists the label sets that codes and their names make."""
    return {"diagnosis": tuple(sorted(set(names.values()))), "snomed": tuple(sorted(names))}


def parse_age(text: str, name: str) -> tuple[float | None, bool]:
    """Reads an age in years; NaN and -1 stand for an unknown one.

    Returns:
        The age, None if unknown or over 89, and whether it is over 89.

    Raises:
        EcgFormatError: If it is none.
    """
    if text.lower() in NO_AGE:
        return None, False
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]*)?", text) or float(text) > 120:
        raise EcgFormatError(f"{name}: expected an age from 0 to 120 or NaN, got {text[:40]!r}; download it again")
    return (float(text), False) if float(text) <= 89 else (None, True)


def parse_sex(text: str, name: str) -> str | None:
    """Reads a sex.

    Raises:
        EcgFormatError: If it is none that is known.
    """
    if text.lower() not in SEXES:
        raise EcgFormatError(f"{name}: expected a sex of {sorted(SEXES)}, got {text[:40]!r}; download it again")
    return SEXES[text.lower()]
