"""The roles that methods have in a report; no other name of a method has a meaning to it."""

from bench.baseline import TEACHER

REFERENCE = "scratch"  # what every gain is held against
SECOND = "kd"  # what every other method is held against too
CEILING = TEACHER  # what there is to reach
MARK = "†"  # beside a method that must not be read as like for like
