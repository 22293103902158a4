from busmon.registry.fold import usual_ids

admit = usual_ids.admit
