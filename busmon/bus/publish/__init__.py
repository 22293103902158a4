"""The agent's side: envelopes, published and confirmed."""
