"""Envelopes into the changes of one batch, in memory."""
