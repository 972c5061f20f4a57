# ruff: noqa: F401 - imported for their own sake
"""Imported once by the fork server, so that a worker starts in milliseconds.

Nothing here may touch an accelerator: a context does not survive a fork.
"""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import bm25s
import sklearn.linear_model
import timm
import torch
import transformers.models.bert.modeling_bert

import bench.measure.cost
import bench.models.dual
import bench.models.text
import bench.models.vision
import bench.run_cell
