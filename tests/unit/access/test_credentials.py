"""Credentials in an Authorization header."""

import base64
import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.credentials import MAX_LENGTH, Basic, Bearer, read_credentials
from tests.unit.access.cases import basic


class CredentialsTests(SynchronousTestCase):
    @given(
        st.text(st.characters(exclude_characters=":", codec="utf-8")), st.text(st.characters(codec="utf-8"))
    )
    def test_basic(self, username: str, password: str) -> None:
        """The user name ends at the first colon; a password may contain more (RFC 7617)."""
        if len(username) + len(password) < 1000:
            self.assertEqual(read_credentials(basic(username, password)), Basic(username, password))

    def test_schemes(self) -> None:
        """A scheme is case-insensitive; an unknown one is ignored."""
        self.assertEqual(read_credentials("bEARER  x.y "), Bearer("x.y"))
        self.assertEqual(read_credentials(basic("a", "b").replace("Basic", "BASIC")), Basic("a", "b"))
        self.assertIsNone(read_credentials("Negotiate abc"))
        self.assertIsNone(read_credentials(""))

    def test_wrong(self) -> None:
        """Malformed credentials are rejected with a message that contains no part of them."""
        for header in (
            "Basic",
            "Basic !",
            "Basic aGVsbG8=",
            "Basic " + base64.b64encode(b"\xff:\xff").decode(),
            "Bearer " + "x" * MAX_LENGTH,
        ):
            with self.assertRaises(ValueError, msg=header) as caught:
                read_credentials(header)
            self.assertNotIn("aGVsbG8", str(caught.exception))
            self.assertNotIn("hello", str(caught.exception))

    def test_no_secret(self) -> None:
        """The repr contains no password and no token."""
        self.assertNotIn("hunter2", repr(Basic("me", "hunter2")) + repr(Bearer("hunter2")))

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Any header is parsed or rejected with ValueError."""
        with contextlib.suppress(ValueError):
            read_credentials(text)
