"""What an object's class is called, by the value of its attribute; as ``plugin/feature_file.py`` has it."""

from __future__ import annotations


def name_of_class(value: object) -> str:
    """Return the name of a class; empty for none.

    Args:
        value: of an attribute; whole numbers are written as such, whatever their type.
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN is how a column of numbers says NULL
        return ""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return text.strip()
