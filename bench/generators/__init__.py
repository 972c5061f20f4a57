"""Generators: what turns training inputs into new ones, through a code that can be perturbed."""
