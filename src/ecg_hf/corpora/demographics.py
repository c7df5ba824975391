"""Parsers of age, sex and SNOMED codes as the headers of all releases of the Challenge spell them."""

import re
from collections.abc import Collection, Mapping

from ecg_hf.errors import EcgFormatError

SEXES = {"male": "male", "m": "male", "female": "female", "f": "female", "unknown": None, "nan": None, "": None}
NO_AGE = ("nan", "unknown", "", "-1")
NO_CODE = ("nan", "unknown", "")


def parse_comments(header: bytes, name: str) -> dict[str, str]:
    """Reads the comments of a header, such as "# Age: 56" or "#Age: 56".

    Args:
        header: Content of the header file.
        name: Name of the record, for messages.

    Returns:
        The text of each comment by its name in lower case; "age", "sex" and "dx" are always among the names.

    Raises:
        EcgFormatError: If age, sex or dx is missing, or two comments have the same name.
    """
    lines = (line.strip() for line in header.decode("utf-8", "backslashreplace").splitlines())
    pairs = [line[1:].partition(":") for line in lines if line.startswith("#")]
    comments = {key.strip().lower(): value.strip() for key, _, value in pairs}
    if len(comments) < len(pairs) or not {"age", "sex", "dx"} <= comments.keys():
        raise EcgFormatError(
            f"{name}: expected comments of Age, Sex and Dx, each once, got {[key for key, *_ in pairs]}; "
            "download the header again"
        )
    return comments


def parse_codes(text: str, name: str, known: Collection[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """Reads a list of SNOMED codes such as "164889003,59118001"; some headers repeat a code or leave a place empty.

    Args:
        text: List of codes, separated by commas.
        name: Name of the record, for messages.
        known: Codes that the source is known to use.
        words: Code of each word that may stand for a code.

    Returns:
        The codes, each once, in the order of the list.

    Raises:
        EcgFormatError: If a code is not in `known`.
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
    """Returns the labels of a record: its codes in the set "snomed", their names, each once, in "diagnosis"."""
    meanings = dict.fromkeys(names[code] for code in codes)
    return (*(("snomed", code, 1.0) for code in codes), *(("diagnosis", meaning, 1.0) for meaning in meanings))


def label_sets_of(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the label sets "diagnosis", of all names of codes, and "snomed", of the codes, both sorted."""
    return {"diagnosis": tuple(sorted(set(names.values()))), "snomed": tuple(sorted(names))}


def parse_age(text: str, name: str) -> tuple[float | None, bool]:
    """Reads an age in years; NaN, -1, "unknown" and an empty text stand for an unknown age.

    Args:
        text: Age as the source writes it.
        name: Name of the record, for messages.

    Returns:
        The age, None if unknown or over 89, and whether it is over 89.

    Raises:
        EcgFormatError: If the text is not an age from 0 to 120.
    """
    if text.lower() in NO_AGE:
        return None, False
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]*)?", text) or float(text) > 120:
        raise EcgFormatError(f"{name}: expected an age from 0 to 120 or NaN, got {text[:40]!r}; download it again")
    return (float(text), False) if float(text) <= 89 else (None, True)


def parse_sex(text: str, name: str) -> str | None:
    """Reads a sex.

    Args:
        text: Sex as the source writes it, in upper or lower case.
        name: Name of the record, for messages.

    Returns:
        "female", "male", or None if unknown.

    Raises:
        EcgFormatError: If the text is not one of the known spellings.
    """
    if text.lower() not in SEXES:
        raise EcgFormatError(f"{name}: expected a sex of {sorted(SEXES)}, got {text[:40]!r}; download it again")
    return SEXES[text.lower()]
