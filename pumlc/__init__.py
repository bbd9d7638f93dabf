"""Training of multi-label image classifiers from incomplete and noisy labels."""

__version__ = "0.1.0"


def build_info() -> dict[str, object]:
    """What the compiled extension was built with; see :func:`pumlc.ops.build_info`."""
    from pumlc.ops import build_info

    return build_info()
