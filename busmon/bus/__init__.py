"""AMQP: `frames` → `connect` → `topology` → `publish` and `republish` → `consume`; `operator` for people."""
