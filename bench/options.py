"""The options that several commands share: their types and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Results = Annotated[Path, typer.Option(help="Folder of the records.")]
Reports = Annotated[Path, typer.Option(help="Folder of the rendered reports.")]
Methods = Annotated[
    str, typer.Option(help="Methods and baselines: kd,fitnets or kd:temperature=2, or all.")
]
Tasks = Annotated[str, typer.Option(help="Tasks: amazon,cifar10 or cifar10:n=250, or all.")]
PresetName = Annotated[str, typer.Option(help="quick, small, standard or paper.")]
Seeds = Annotated[str, typer.Option(help="How many seeds (3), or which ones (0,5,7).")]
TeacherSeed = Annotated[int, typer.Option(help="Seed of the one teacher of each task.")]
SourceName = Annotated[
    str | None, typer.Option(help="embedded, mirror or hub, instead of the preset's own.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Cells at once; by default one per core or GPU.")
]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads of each cell.")]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", help="A .py file or module that registers parts.")
]
CacheSize = Annotated[
    float, typer.Option(min=0, help="Gigabytes the teacher signals of one cell may take on disk.")
]
Live = Annotated[bool, typer.Option("--live", help="Run the teacher live, never from the cache.")]
CheckCache = Annotated[
    bool, typer.Option("--check-cache", help="Recompute a sample of the cached signals before use.")
]
Devices = Annotated[
    str | None, typer.Option(help="Devices to use, one cell on each at a time: cuda:0,cuda:1.")
]
Where = Annotated[str, typer.Option("--executor", help="local (this machine) or ray (a cluster).")]
Address = Annotated[
    str | None, typer.Option(help="HOST:PORT of the Ray cluster; by default the one running here.")
]
Requests = Annotated[
    list[str] | None,
    typer.Option("--request", help="Resources of a Ray job: TASK/PRESET:cpus=2:gpus=0.5:memory=8."),
]
Retry = Annotated[
    str, typer.Option(help="Cells to run again, by status: oom,timeout, or all, or none.")
]
CellTimeout = Annotated[
    float | None, typer.Option(help="Seconds a cell may take; a teacher has no limit.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Run students through torch.compile.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a preset field, say epochs=2 or n=250."),
]
