"""Lines of JSON → envelopes of samples: for input that doesn't come from an agent's instruments.

A bad line is reported and costs nothing but itself. Reads a descriptor as data comes, and gives an envelope when it is
full or when the input pauses, so that a slow input is published, too. One thread.
"""
