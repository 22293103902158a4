"""The fold of envelopes into the changes of one batch, in memory."""
