"""Bytes to `Envelope` and back: the contract with publishers."""
