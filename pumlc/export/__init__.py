"""A trained model in a file of its own, checked on pictures; ``python -m pumlc.export`` is its command line."""

from pumlc.export.formats import FORMATS
from pumlc.export.network import ExportedNetwork

__all__ = ["FORMATS", "ExportedNetwork"]
