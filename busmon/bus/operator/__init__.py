"""The operator's tools on the bus: the quarantine's bodies and a tap on an exchange."""
