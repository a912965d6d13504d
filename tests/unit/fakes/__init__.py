"""The fakes themselves: what other tests stand on."""
