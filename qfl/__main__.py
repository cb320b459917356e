"""``python -m qfl``."""

from qfl.cli import entry_point

entry_point()
