from busmon.registry.ledger import usual_ids

admit = usual_ids.admit
