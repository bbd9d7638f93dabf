"""A run as one page for people: ``python -m pumlc.report RUN``."""
