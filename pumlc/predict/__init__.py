"""Classes and probabilities of pictures; ``python -m pumlc.predict`` is its command line."""

from pumlc.predict.probabilities import Options, Predicted, predict, predict_batches

__all__ = ["Options", "Predicted", "predict", "predict_batches"]
