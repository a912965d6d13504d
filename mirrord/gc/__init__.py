"""What leaves the disk, and when."""
