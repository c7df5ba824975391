"""Tables of text for terminals."""

from collections.abc import Sequence


def make_table(rows: Sequence[Sequence[str]]) -> str:
    """Lines up rows of text, the first one being the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def show_number(value: int | None, bound: str = "") -> str:
    """Writes a number that may not be known."""
    return "?" if value is None else f"{bound}{value:,}"
