"""The report's figures: one module each, all in the style of :mod:`bench.report.figures.style`."""
