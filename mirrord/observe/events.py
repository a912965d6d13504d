"""The kinds of events that an operator may search for, each with an ID of its own.

The journal calls it MESSAGE_ID (systemd.journal-fields(7)): it stays the same when a message is reworded, so
that searches and alerts can rely on it. A log call names its kind as `event=Event.PULLED`.
"""

from enum import StrEnum


class Event(StrEnum):
    """The kinds of events; a value is a MESSAGE_ID."""

    STARTED = "bc1496e45c714944a6e19280d6829724"
    RELOADED = "38455e318c5345feb1e94e7b4cc23da3"
    RELOAD_REFUSED = "6f2bb1a38b2e4699b4640e7e5e32da32"
    DRAINED = "1214c22aeecb4b21b6912d601319d2b6"
    PULLED = "1e87d853606f4491982443a1f5ae19af"
    PUSHED = "d862e9886a344d409376d52afcd6fde6"
    DELETED = "7c81d4d2aa9a44b48651639f4b3b326b"
    ANSWERED = "77a8363fc8874fe296ee7f122e80e077"
    UPSTREAM_FAILING = "6b45719aa94f4c78aafbf549e771013c"
    UPSTREAM_LIMITED = "a34d6892e9b044158082bbd006b8eec2"
    UPSTREAM_RECOVERED = "d099aee726a74ce6bc69a1139934468f"
    ACCOUNT_REJECTED = "8a1cad202aeb467cae7ed879d4643e57"
    DOWNLOAD_BROKEN = "6d858522475342cb8e81dda906b01799"
    BLOB_CORRUPT = "37570fe911e84b358da1bfb0b3c9af12"
    COMMANDED = "6b711c71179d4405a51dc5484121aef3"
    LOGIN_FAILED = "c04012acfe2642d88a74e49ce8ced383"
    LOG_DROPPED = "3687073df7494f948f93a5c9d11f59cb"

    @property
    def word(self) -> str:
        """Return the name of the kind in JSON and in the documentation."""
        return self.name.lower()
