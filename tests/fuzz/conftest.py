"""`make fuzz` runs these tests under the profile `fuzz`, for hours if need be; `make test` briefly."""

from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("default"), max_examples=20_000)
