"""The tables `[hosted]` and `[access]`."""

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.access import Principal
from mirrord.config.config import Config, ConfigError, parse_config, render
from mirrord.config.conflicts import conflicts

TABLES = """
[hosted]
repositories = ["team/*", "*"]
grace = "2h"
max_upload_size = "5 GiB"
[[hosted.keep]]
untagged_for = "7d"
newest = 10
[access]
htpasswd = "/etc/mirrord/htpasswd"
realm = "https://mirror.lan/"
[[access.rules]]
repositories = ["team/secret"]
[[access.rules]]
repositories = ["team/*"]
pull = ["anonymous", "network:10.0.0.0/8", "user:ann", "certificate:ci.lan"]
push = ["users"]
"""

ERRORS = [
    ("[access]", "access.rules: at least one is needed: what no rule allows is denied"),
    (
        "[access]\nrules = [{repositories = []}]",
        "access.rules[0].repositories: at least one pattern is needed",
    ),
    (
        '[access]\nrules = [{repositories = ["*"], push = ["user:ann"]}]',
        "access.htpasswd: missing; rules[0] names users",
    ),
    (
        '[access]\nrules = [{repositories = ["*"], pull = ["all"]}]',
        "access.rules[0].pull[0]: must be anonymous, users, ",
    ),
    (
        '[access]\nrules = [{repositories = ["*"], pull = ["users:x"]}]',
        "access.rules[0].pull[0]: must be anonymous, users",
    ),
    (
        '[access]\nrules = [{repositories = ["*"], pull = ["network:10"]}]',
        "access.rules[0].pull[0]: must be a network or an address",
    ),
    (
        '[access]\nrules = [{repositories = ["*"], pull = ["certificate:"]}]',
        "access.rules[0].pull[0]: must be a name that a certificate can contain",
    ),
    (
        '[hosted]\nrepositories = ["*"]\n[access]\n'
        'rules = [{repositories = ["a/*"]}, {repositories = ["hosted/a/b", "a/?/*"]}]',
        "access.rules: rules[1] has no effect: earlier rules match all that it does",
    ),
    (
        '[access]\nrules = [{repositories = ["index.docker.io/*"]}, {repositories = ["docker.io/x"]}]',
        "access.rules: rules[1] has no effect: earlier rules match all that it does",
    ),
    (
        '[access]\nrules = [{repositories = ["quay.io/x", "team x/*"]}]',
        "access.rules[0].repositories[1]: no repository name can match this pattern",
    ),
    (
        '[access]\nrules = [{repositories = ["quay.io/"]}]',
        "access.rules[0].repositories[0]: no repository name can match this pattern",
    ),
    (
        '[hosted]\nrepositories = ["team/*"]\n[access]\nrules = [{repositories = ["team/x", "quya.io/*"]}]',
        "access.rules[0].repositories[1]: 'quya.io/*' matches no repository: it names no upstream",
    ),
    (
        '[hosted]\nrepositories = ["team/*"]\n[access]\nrules = [{repositories = ["registry.lan:5000/*"]}]',
        "access.rules[0].repositories[0]: 'registry.lan:5000/*' matches no repository: it names no upstream",
    ),
    (
        '[hosted]\nrepositories = ["*"]\n[access]\nrules = [{repositories = ["quay/*"]}]',
        "access.rules[0].repositories[0]: 'quay/*' matches no repository: quay is the prefix of "
        "upstream['quay.io']; rules name upstreams",
    ),
    ("[[hosted.keep]]", "hosted.keep[0].untagged_for: missing; set this, newest or older_than"),
    ('[[hosted.keep]]\nnewest = "5"', "hosted.keep[0].newest: must be a whole number from 1 to 1000000"),
    ("[[hosted.keep]]\nnewest = true", "hosted.keep[0].newest: must be a whole number from 1 to 1000000"),
    ("[[hosted.keep]]\nnewest = 0", "hosted.keep[0].newest: must be a whole number from 1 to 1000000"),
    ('[[hosted.keep]]\nnewest = 1\ntags = "v/*"', "hosted.keep[0].tags: no tag can match this pattern"),
    ('[[upstream]]\nname = "hosted"\nurl = "https://x"', "upstream['hosted'].name: is reserved for hosted"),
    (
        '[hosted]\nrepositories = ["team/*", "ghcr/app"]',
        "hosted.repositories[1]: 'ghcr/app' matches names that begin with ghcr/, "
        "which is the prefix of upstream['ghcr.io']",
    ),
]


def parse(text: str) -> Config:
    return parse_config(text, environment={"HOME": "/home/me"})


class TableTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """By default no repository is hosted, and there are no access rules."""
        config = parse("")
        self.assertEqual(config.hosted.repositories, ())
        self.assertIsNone(config.access)

    def test_round_trip(self) -> None:
        """Rendering and parsing again returns an equal configuration, with principals and numbers."""
        config = parse(TABLES)
        self.assertEqual(parse(render(config)), config)
        self.assertIn("newest = 10\n", render(config))
        self.assertIn('"network:10.0.0.0/8"', render(config))

    def test_errors(self) -> None:
        """Each mistake is reported in one line with the path of its key."""
        for text, line in ERRORS:
            with self.assertRaises(ConfigError, msg=text) as caught:
                parse(text)
            (message,) = caught.exception.lines
            self.assertTrue(message.startswith(line), f"{text!r}: {message!r} does not begin with {line!r}")

    def test_narrow_before_wide(self) -> None:
        """A rule for some of the repositories of a later one is accepted."""
        for patterns in (
            ("a/?", "a/*", "*"),
            ("*/x", "docker.io/x"),
            ("docker.io/*", "hosted/docker.io/*", "quay.io/*", "*"),
        ):
            rules = ", ".join(f'{{repositories = ["{pattern}"]}}' for pattern in patterns)
            parse(f'[hosted]\nrepositories = ["*"]\n[access]\nrules = [{rules}]')

    def test_upstream_with_a_port(self) -> None:
        """A rule can name an upstream whose name has a port."""
        upstream = '[[upstream]]\nname = "registry.lan:5000"\nurl = "https://registry.lan:5000"\n'
        config = parse(f'{upstream}[access]\nrules = [{{repositories = ["registry.lan:5000/x/*"]}}]')
        self.assertEqual(parse(render(config)), config)

    @given(st.sampled_from(["anonymous", "users", "user:ann", "certificate:a:b", "network:fd00::/8"]))
    def test_principals(self, text: str) -> None:
        """Parsing and formatting a principal round-trips."""
        self.assertEqual(str(Principal.parse(text)), text)


class ConflictTests(SynchronousTestCase):
    @given(st.text("ab/*?", min_size=1, max_size=6), st.text("ab/", min_size=1, max_size=4))
    def test_every_conflict(self, pattern: str, rest: str) -> None:
        """A pattern that matches a name with an upstream's prefix is rejected, except for `*`."""
        table = {"hosted": {"repositories": [pattern]}}
        lines = list(conflicts(table, {"upstream['a']": {"prefix": "ab"}}))
        if pattern == "*":
            self.assertEqual(lines, [])
        elif fnmatchcase(f"ab/{rest}", pattern):
            self.assertEqual(len(lines), 1)

    def test_no_conflict(self) -> None:
        """A name that only resembles a prefix, or is the prefix alone, is no conflict."""
        parse('[hosted]\nrepositories = ["quays/*", "my-quay/*", "team/quay/*", "quay"]')
