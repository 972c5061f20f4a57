"""Imported once by the fork server, so that a worker starts in milliseconds."""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sklearn.linear_model  # noqa: F401
