"""Settings for all tests."""

import signal

from hypothesis import HealthCheck, settings

# The first text in a fresh checkout takes two seconds, for a table of all Unicode characters; and on a busy
# machine a slow example does not mean that a property is false.
settings.register_profile("mirrord", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mirrord")

# A shell starts jobs in the background with SIGINT ignored, and so would be every daemon that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
