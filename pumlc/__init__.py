"""Training of multi-label image classifiers from incomplete and noisy labels."""

__version__ = "0.1.0"
