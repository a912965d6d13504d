"""Tokens: issuing and verification, and the key that signs them."""

import base64
import json
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.rules import Action
from mirrord.access.scopes import read_scopes
from mirrord.access.tokens import KEY_NAME, TOKEN_SECONDS, InvalidToken, TokenIssuer, open_key
from mirrord.oci.names import RepositoryName
from tests.unit.access.cases import hosted, hub

TEAM, OTHER = (
    attrs.evolve(scope, registries=frozenset(registries))
    for scope, registries in zip(
        read_scopes(["repository:team/a:pull,push", "repository:b:pull"]),
        ({"hosted", "docker.io"}, {"docker.io"}),
        strict=True,
    )
)
SCOPES = (TEAM, OTHER)


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000.5)
        self.key = Ed25519PrivateKey.generate()
        self.tokens = TokenIssuer(self.key, self.clock.seconds)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a token of Ann's, with changes."""
        claims = jwt.decode(self.tokens.issue("ann", SCOPES), options={"verify_signature": False})
        return {**claims, **changes}

    def signed(self, **changes: Any) -> str:
        return jwt.encode(self.claims(**changes), self.key, algorithm="EdDSA")

    def assert_invalid(self, token: str) -> None:
        with self.assertRaises(InvalidToken) as caught:
            self.tokens.read(token)
        self.assertLess(len(str(caught.exception)), 80)

    def test_round_trip(self) -> None:
        """A token contains its user and its scopes."""
        claims = self.tokens.read(self.tokens.issue("ann", SCOPES))
        self.assertEqual((claims.user, claims.scopes), ("ann", SCOPES))
        team, other = hosted("team/a"), hub("b")
        self.assertTrue(claims.covers(team.repository, Action.PUSH, team))
        self.assertTrue(claims.covers(other.repository, Action.PULL, other))
        self.assertFalse(claims.covers(other.repository, Action.PUSH, other))
        self.assertFalse(claims.covers(RepositoryName("team"), Action.PULL, team))
        self.assertFalse(claims.covers(other.repository, Action.PULL, hosted("b")))
        self.assertIsNone(self.tokens.read(self.tokens.issue(None, ())).user)

    def test_generation(self) -> None:
        """A token contains the generation of its password, which the key alone can compute from the hash."""
        claims = self.tokens.read(self.tokens.issue("ann", SCOPES, b"$2b$hash"))
        self.assertEqual(claims.generation, self.tokens.generation(b"$2b$hash"))
        self.assertNotEqual(claims.generation, self.tokens.generation(b"$2b$hush"))
        again = TokenIssuer(self.key, self.clock.seconds)
        self.assertEqual(claims.generation, again.generation(b"$2b$hash"))
        other = TokenIssuer(Ed25519PrivateKey.generate(), self.clock.seconds)
        self.assertNotEqual(claims.generation, other.generation(b"$2b$hash"))

    def test_claims(self) -> None:
        """The claims are those of distribution's specification, and no two tokens are equal."""
        claims = self.claims()
        self.assertEqual(
            claims["access"],
            [
                {"type": "repository", "name": "team/a", "actions": ["pull", "push"]},
                {"type": "repository", "name": "b", "actions": ["pull"]},
            ],
        )
        self.assertEqual(claims["registries"], {"docker.io": [0, 1], "hosted": [0]})
        self.assertEqual(claims["exp"] - claims["iat"], TOKEN_SECONDS)
        self.assertEqual((claims["iss"], claims["aud"], claims["sub"]), ("mirrord", "mirrord", "ann"))
        self.assertNotEqual(claims["jti"], self.claims()["jti"])

    def test_expires(self) -> None:
        """A token expires a little after its lifetime, even where it was verified before."""
        token = self.tokens.issue("ann", SCOPES)
        self.tokens.read(token)
        self.clock.advance(TOKEN_SECONDS)
        self.tokens.read(token)
        self.clock.advance(31)
        self.assert_invalid(token)

    def test_clock_set_back(self) -> None:
        """A token that is not valid yet is rejected, beyond a tolerance for clocks that were set back."""
        token = self.tokens.issue("ann", SCOPES)
        self.clock.rightNow -= 20
        self.tokens.read(token)
        self.clock.rightNow -= 60
        self.assert_invalid(self.signed(nbf=int(self.clock.seconds()) + 60))

    def test_another_key(self) -> None:
        """A token that was signed with another key is rejected."""
        self.assert_invalid(
            TokenIssuer(Ed25519PrivateKey.generate(), self.clock.seconds).issue("ann", SCOPES)
        )

    def test_other_algorithms(self) -> None:
        """A token without a signature, or signed with our public key as an HMAC secret, is rejected."""
        secret = self.key.public_key().public_bytes_raw()
        self.assert_invalid(jwt.encode(self.claims(), secret, algorithm="HS256"))
        self.assert_invalid(jwt.encode(self.claims(), "", algorithm="none"))
        for name in ("none", "None", "HS256", "EdDSA", "ES256"):
            self.assert_invalid(f"{encoded({'alg': name, 'typ': 'JWT'})}.{encoded(self.claims())}.")

    def test_changed(self) -> None:
        """A modified token is rejected."""
        token = self.tokens.issue("ann", ())
        header, _, signature = token.split(".")
        self.assert_invalid(f"{header}.{encoded(self.claims(sub='bob'))}.{signature}")
        self.assert_invalid(token[:-4])
        self.assert_invalid(f"{token}.x")

    def test_other_claims(self) -> None:
        """A token for another audience or issuer, or without a claim, is rejected although we signed it."""
        self.assert_invalid(self.signed(aud="registry.docker.io"))
        self.assert_invalid(self.signed(iss="auth.docker.io"))
        for name in ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "generation", "access", "registries"):
            claims = self.claims()
            del claims[name]
            self.assert_invalid(jwt.encode(claims, self.key, algorithm="EdDSA"))

    def test_too_much(self) -> None:
        """A token that is too long, or nested too deeply, is rejected."""
        self.assert_invalid("x" * 100_000)
        deep = base64.urlsafe_b64encode(b"[" * 8000).decode().rstrip("=")
        self.assert_invalid(f"{deep}.{deep}.AAAA")

    @given(st.text() | st.lists(st.text("abcXYZ019_-"), min_size=3, max_size=3).map(".".join))
    def test_any(self, text: str) -> None:
        """Any other text is rejected."""
        self.assert_invalid(text)

    def test_no_secret(self) -> None:
        """The repr contains neither the key nor a token."""
        self.tokens.read(self.tokens.issue("ann", SCOPES))
        self.assertEqual(repr(self.tokens).count("="), 1)


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


class KeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "state"
        self.file = self.folder / KEY_NAME

    def test_generated_once(self) -> None:
        """The key is the same at the next start."""
        self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))

    def test_own_only(self) -> None:
        """Only its owner can read the key, even while it is generated."""
        open_key(self.folder)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual([path.name for path in self.folder.iterdir()], [KEY_NAME])

    def test_damaged(self) -> None:
        """A key that is damaged, truncated or of another kind is replaced once."""
        self.folder.mkdir(parents=True)
        for content in (b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff"):
            self.file.write_bytes(content)
            self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))

    def test_interrupted(self) -> None:
        """A file left by a start that was interrupted while it wrote the key is replaced."""
        self.folder.mkdir(parents=True)
        self.file.with_suffix(".new").write_bytes(b"half")
        self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))
