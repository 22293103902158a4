"""Files of a registry directory: value files, journal, locks, and their damage. Nothing here knows a batch."""
