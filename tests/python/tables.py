"""The tests' tables: rows of columns, without comments."""

from pathlib import Path

_TESTS = Path(__file__).parents[1]


def rows(name: str) -> list[list[str]]:
    """Of a file below tests/, such as ``tlsa/domains.tsv``."""
    lines = (_TESTS / name).read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]
