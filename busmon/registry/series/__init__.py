"""Series in memory: cells of value files, gauge shares, sketches, and the sizes and numbers that all rooms share."""
