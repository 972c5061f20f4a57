"""Plans of tests: few cells unless more are asked for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bench.cells import Cell
from bench.config import build
from bench.plan import Plan, make_plan
from bench.suites import Suite


def plan(**suite: Any) -> Plan:
    values = {"methods": ["kd"], "tasks": ["cifar10"], "seeds": [0], **suite}
    return make_plan(build(Suite, values, "the test"), device="cpu")


def cell(method: str = "kd", device: str = "cpu", **suite: Any) -> Cell:
    values = {"methods": [method], "tasks": ["cifar10"], "seeds": [0], **suite}
    (found,) = make_plan(build(Suite, values, "the test"), device=device).cells
    return found


def write_cifar10(root: Path, rows: int = 20) -> Path:
    """Write a tiny CIFAR-10 in the hub's own columns below ``root``."""
    folder = root / "uoft-cs" / "cifar10"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(rows)
    images = []
    for _ in range(rows):
        stream = io.BytesIO()
        Image.fromarray(chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(stream, "PNG")
        images.append({"bytes": stream.getvalue(), "path": None})
    table = pa.table({"img": images, "label": [row % 10 for row in range(rows)]})
    for split in ("train", "test"):
        pq.write_table(table, folder / f"{split}.parquet")
    return root
