"""Plain-text tables for the terminal."""

from collections.abc import Sequence


def make_table(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows of text as a table with aligned columns.

    Args:
        rows: Cells of each row, equally many in all rows; by convention the first row is the header.

    Returns:
        The table, one line per row, with a newline at its end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def show_number(value: int | None, bound: str = "") -> str:
    """Formats a number with thousands separators, or "?" if it is unknown.

    Args:
        value: The number; None if it is unknown.
        bound: Text before the number, such as "<= ".
    """
    return "?" if value is None else f"{bound}{value:,}"
