"""Shared code of the companion to the early papers on weakly supervised object localisation."""

__version__ = "0.1.0"
