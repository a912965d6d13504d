"""What all tests share: how patient hypothesis is."""

from hypothesis import HealthCheck, settings

# Its first text in a fresh checkout takes two seconds, for a table of all Unicode is made; and a machine
# with something else to do is no reason for a property to be false.
settings.register_profile("mirrord", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mirrord")
