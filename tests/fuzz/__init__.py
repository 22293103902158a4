"""The fuzzers: bodies of every format through a worker's lane, and damaged registry directories, in slices that resume.

`python -m tests.fuzz` runs them under atheris, guided by coverage; `bodies.py` and `directories.py` are the targets.
"""
