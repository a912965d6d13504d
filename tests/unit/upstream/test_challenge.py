"""Tests of mirrord/upstream/challenge.py."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.datastructures import WWWAuthenticate

from mirrord.upstream.challenge import Challenge, choose

_TOKENS = st.text("abcXYZ019-_.!~", min_size=1, max_size=8)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
_PARAMETERS = st.dictionaries(_TOKENS.map(str.lower), _VALUES, min_size=1, max_size=4)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write(scheme: str, parameters: dict[str, str]) -> str:
    return f"{scheme} " + ", ".join(f"{name}={_quote(value)}" for name, value in parameters.items())


class ChallengeTests(SynchronousTestCase):
    def test_docker_hub(self) -> None:
        """Commas inside a quoted scope do not separate."""
        [challenge] = Challenge.parse_all(
            [
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:library/nginx:pull,push"'
            ]
        )
        self.assertEqual("bearer", challenge.scheme)
        self.assertEqual("repository:library/nginx:pull,push", challenge.parameters["scope"])
        self.assertEqual("https://auth.docker.io/token", challenge.parameters["realm"])

    def test_several(self) -> None:
        """Several challenges are parsed from one line or several, with or without parameters."""
        expected = [
            Challenge("negotiate"),
            Challenge("basic", {"realm": "a, b"}),
            Challenge("ntlm", {}, "YWJj=="),
            Challenge("bearer", {"realm": "r", "scope": "s"}),
        ]
        lines = ["Negotiate", 'Basic realm="a, b"', "NTLM YWJj==", 'Bearer realm="r", scope=s']
        self.assertEqual(expected, Challenge.parse_all(lines))
        self.assertEqual(expected, Challenge.parse_all([", ".join(lines)]))
        self.assertEqual(expected, Challenge.parse_all([" ,, ".join(lines) + ","]))

    def test_escapes(self) -> None:
        """A backslash in a quoted string escapes the next character."""
        [challenge] = Challenge.parse_all([r'Basic realm="a\"b\\c"'])
        self.assertEqual('a"b\\c', challenge.parameters["realm"])

    def test_broken(self) -> None:
        """Text after the first syntax error is ignored, and so is an unterminated value."""
        self.assertEqual([], Challenge.parse_all([""]))
        self.assertEqual([], Challenge.parse_all(['realm="x"']))
        self.assertNotIn("realm", Challenge.parse_all(['Bearer realm="https://evil'])[0].parameters)
        [challenge] = Challenge.parse_all(['Basic realm="x" junk="y"'])
        self.assertEqual({"realm": "x"}, challenge.parameters)

    def test_too_long(self) -> None:
        """Challenges beyond the limit are ignored."""
        self.assertEqual([], Challenge.parse_all(["Basic " + "a" * 20_000]))

    def test_preference(self) -> None:
        """Bearer is preferred to Basic in any order; other schemes are not supported."""
        challenges = Challenge.parse_all(['Basic realm="x", Bearer realm="y", Digest realm="z"'])
        chosen = choose(challenges)
        assert chosen is not None
        self.assertEqual("bearer", chosen.scheme)
        self.assertIsNone(choose(Challenge.parse_all(["Digest realm=z"])))

    @given(st.lists(st.tuples(_TOKENS, _PARAMETERS), min_size=1, max_size=4))
    def test_round_trip(self, written: list[tuple[str, dict[str, str]]]) -> None:
        """Whatever challenges are written, in one line or several, are parsed back."""
        expected = [Challenge(scheme.lower(), parameters) for scheme, parameters in written]
        lines = [_write(scheme, parameters) for scheme, parameters in written]
        self.assertEqual(expected, Challenge.parse_all(lines))
        self.assertEqual(expected, Challenge.parse_all([",".join(lines)]))

    @given(st.sampled_from(["Bearer", "basic", "Digest"]), _PARAMETERS)
    def test_oracle(self, scheme: str, parameters: dict[str, str]) -> None:
        """A single challenge is parsed as werkzeug does."""
        text = _write(scheme, parameters)
        theirs = WWWAuthenticate.from_header(text)
        assert theirs is not None
        [ours] = Challenge.parse_all([text])
        self.assertEqual((theirs.type, theirs.parameters), (ours.scheme, ours.parameters))

    @given(st.lists(st.text(max_size=60), max_size=3))
    def test_anything(self, lines: list[str]) -> None:
        """No text makes the parser fail."""
        for challenge in Challenge.parse_all(lines):
            self.assertTrue(challenge.scheme)

    @given(st.text('Basic ,="\\\t\x00é', max_size=60))
    def test_delimiters(self, text: str) -> None:
        """No order of delimiters makes the parser fail."""
        choose(Challenge.parse_all([text]))
