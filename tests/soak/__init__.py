"""The soak: a real fleet, a broker of its own and real publishers, killed at random, and nothing miscounted.

`python -m tests.soak --seed N --kills N` runs it; `soak.py` is where to start reading.
"""
