"""Token scopes."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.rules import Action
from mirrord.access.scopes import MAX_SCOPES, Scope, read_scopes
from mirrord.oci.names import RepositoryName


class ScopeTests(SynchronousTestCase):
    def test_parse(self) -> None:
        """Scopes come in several parameters or in one, with actions in any order; `*` means all of them."""
        one = Scope(RepositoryName("team/a"), frozenset({Action.PULL, Action.PUSH}))
        two = Scope(RepositoryName("b"), frozenset(Action))
        for texts in (
            ["repository:team/a:push,pull", "repository:b:*"],
            ["repository:team/a:pull,push,fly repository:b:pull,push,delete"],
        ):
            self.assertEqual(read_scopes(texts), (one, two))

    def test_ignored(self) -> None:
        """A scope of something other than a repository, or without a known action, is ignored."""
        for text in (
            "registry:catalog:*",
            "repository:A:pull",
            "repository:a",
            "repository:a:",
            "a",
            "",
            "::",
        ):
            self.assertEqual(read_scopes([text]), (), text)

    def test_str(self) -> None:
        """A scope is written as it can be requested, with actions in a fixed order."""
        for text in ("repository:a:pull", "repository:a/b:pull,push", "repository:a:pull,push,delete"):
            self.assertEqual(" ".join(map(str, read_scopes([text]))), text)

    def test_bounded(self) -> None:
        """The number of scopes is bounded, so that a token fits into a header."""
        self.assertEqual(len(read_scopes(["repository:a:pull"] * 1000)), MAX_SCOPES)

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Any text is parsed without an exception."""
        read_scopes([text, f"repository:{text}"])
