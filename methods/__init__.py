"""Distillation methods: one file each, picked up by its ``@register_method`` decorator."""
