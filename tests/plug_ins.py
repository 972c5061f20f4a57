"""What tests register must not stay: later tests of the same process would find it."""

from __future__ import annotations

import sys

from bench import BASELINES, METHODS, TASKS

PREFIX = "bench_plugin_"


def forget_plug_ins() -> None:
    """Take out what plug-in files have registered, and the modules they were loaded as."""
    for registry in (METHODS, BASELINES, TASKS):
        for name, entry in list(registry._entries.items()):
            if entry.module.startswith(PREFIX):
                registry._entries.pop(name)
                registry._classes.pop(name, None)
    for module in [module for module in sys.modules if module.startswith(PREFIX)]:
        del sys.modules[module]
