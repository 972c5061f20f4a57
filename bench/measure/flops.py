"""Floating-point operations, counted by PyTorch's own counter."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> int:
    """Return the floating-point operations of ``call``: matrix products and convolutions.

    A multiplication and an addition count as two.  Element-wise work is not counted.
    Source: ``torch.utils.flop_counter``.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
