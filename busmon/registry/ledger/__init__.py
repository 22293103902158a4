"""The ledger of what was counted: the ids of envelopes, and the owners of sources."""
