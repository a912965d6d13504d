"""The running daemon: what survives a reload, one configuration in effect, and the service around both."""
