"""The operator's view of a registry directory: its contents, and the removal of series."""
