"""A day in minutes: sources, label values and totals come and go on a clock that the test moves, and nothing grows.

`python -m tests.day` runs it; `day.py` is where to start reading.
"""
