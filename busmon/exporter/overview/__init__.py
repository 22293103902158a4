"""The overview document, its figures of the last minutes, and its stream to viewers."""
