"""GPD: gap-preserving distillation (Guo et al. 2024).  The method itself is in ``method``."""
