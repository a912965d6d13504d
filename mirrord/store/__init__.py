"""The disk: blobs and manifests as files, and one SQLite index."""
