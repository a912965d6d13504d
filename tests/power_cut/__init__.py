"""Power cuts: what a disk that lost its unflushed writes leaves of acknowledged pushes (docs/testing.md)."""
