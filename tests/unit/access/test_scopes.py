"""What a token is asked for."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.rules import Action
from mirrord.access.scopes import MAX_SCOPES, Scope, read_scopes
from mirrord.oci.names import RepositoryName


class ScopeTests(SynchronousTestCase):
    def test_reading(self) -> None:
        """Scopes come in parameters or in one, with actions in any order; skopeo's star is all of them."""
        one = Scope(RepositoryName("team/a"), frozenset({Action.PULL, Action.PUSH}))
        two = Scope(RepositoryName("b"), frozenset(Action))
        for asked in (
            ["repository:team/a:push,pull", "repository:b:*"],
            ["repository:team/a:pull,push,fly repository:b:pull,push,delete"],
        ):
            self.assertEqual(read_scopes(asked), (one, two))

    def test_left_out(self) -> None:
        """What is no repository, or nothing that can be done in one, is left out."""
        for word in (
            "registry:catalog:*",
            "repository:A:pull",
            "repository:a",
            "repository:a:",
            "a",
            "",
            "::",
        ):
            self.assertEqual(read_scopes([word]), (), word)

    def test_writing(self) -> None:
        """A scope is written as it can be asked for, always in the same order."""
        for text in ("repository:a:pull", "repository:a/b:pull,push", "repository:a:pull,push,delete"):
            self.assertEqual(" ".join(map(str, read_scopes([text]))), text)

    def test_bounded(self) -> None:
        """Nobody gets a token for more repositories than fit into a header."""
        self.assertEqual(len(read_scopes(["repository:a:pull"] * 1000)), MAX_SCOPES)

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Whatever a client asks for, it is an answer."""
        read_scopes([text, f"repository:{text}"])
