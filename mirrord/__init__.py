"""mirrord: a container registry mirror in one daemon."""
