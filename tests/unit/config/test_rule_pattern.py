"""Patterns of access rules."""

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.rule_pattern import RulePattern, can_overlap
from mirrord.oci.names import RepositoryKey, RepositoryName

UPSTREAMS = ("docker.io", "quay.io", "registry.lan:5000")
KEYS = {
    str(key): key
    for key in (
        RepositoryKey(registry, RepositoryName(name))
        for registry in ("hosted", *UPSTREAMS)
        for name in ("x", "team/x", "docker.io/x", "hosted/x")
    )
}
HOSTED = {text for text in KEYS if text.startswith("hosted/")}

shell_patterns = st.text("ab/*?[!]", max_size=6)


def matched(text: str) -> set[str]:
    pattern = RulePattern.parse(text, UPSTREAMS)
    return {name for name, key in KEYS.items() if pattern.matches(key)}


class RulePatternTests(SynchronousTestCase):
    def test_everything(self) -> None:
        """`*` alone matches every repository, `hosted/*` every hosted one."""
        self.assertEqual(matched("*"), set(KEYS))
        self.assertEqual(matched("hosted/*"), HOSTED)

    def test_upstream(self) -> None:
        """A pattern that begins with an upstream's name matches only repositories of that upstream."""
        for upstream in UPSTREAMS:
            own = {text for text in KEYS if text.startswith(f"{upstream}/")}
            self.assertEqual(matched(f"{upstream}/*"), own)
            self.assertEqual(matched(f"{upstream}/x"), {f"{upstream}/x"})

    def test_alias(self) -> None:
        """Docker Hub's other names mean Docker Hub."""
        for alias in ("index.docker.io", "registry-1.docker.io"):
            self.assertEqual(matched(f"{alias}/*"), matched("docker.io/*"))

    def test_hosted(self) -> None:
        """Any other pattern matches hosted repositories only, whatever it looks like."""
        for text, names in (
            ("team/*", {"hosted/team/x"}),
            ("*/x", {"hosted/team/x", "hosted/docker.io/x", "hosted/hosted/x"}),
            ("docker.i?/*", {"hosted/docker.io/x"}),
            ("hosted/docker.io/*", {"hosted/docker.io/x"}),
            ("hosted/hosted/*", {"hosted/hosted/x"}),
            ("ghcr.io/x", set()),
            ("docker.io", set()),
            ("**", HOSTED),
        ):
            self.assertEqual(matched(text), names, text)

    @given(st.sampled_from(["*", "a/*", "*a", "hosted/a*"]) | shell_patterns, shell_patterns, st.text("ab/"))
    def test_covers(self, wide: str, narrow: str, name: str) -> None:
        """A pattern that covers another one matches every repository that the other one does."""
        one, other = RulePattern.parse(wide, UPSTREAMS), RulePattern.parse(narrow, UPSTREAMS)
        key = RepositoryKey("hosted", RepositoryName(name))
        if one.covers(other) and other.matches(key):
            self.assertTrue(one.matches(key))

    def test_covers_sets(self) -> None:
        """A pattern covers a set of characters only if it matches each of them."""
        narrow = RulePattern.parse("x[ab]", UPSTREAMS)
        for text, is_covering in (("x*", True), ("*a*", False), ("x*]", False)):
            self.assertEqual(RulePattern.parse(text, UPSTREAMS).covers(narrow), is_covering, text)

    def test_covers_no_other_registry(self) -> None:
        """A pattern of hosted names covers no pattern of an upstream's."""
        one, other = (RulePattern.parse(text, UPSTREAMS) for text in ("*/x", "docker.io/x"))
        self.assertFalse(one.covers(other))


class OverlapTests(SynchronousTestCase):
    @given(shell_patterns, shell_patterns, st.text("ab/", max_size=5))
    def test_every_overlap(self, one: str, other: str, name: str) -> None:
        """Two patterns that match one name overlap."""
        if fnmatchcase(name, one) and fnmatchcase(name, other):
            self.assertTrue(can_overlap(one, other))

    def test_no_overlap(self) -> None:
        """Two patterns of which no name matches both do not overlap."""
        for one, other in (
            ("a/*", "b/*"),
            ("a", "a/*"),
            ("?", "ab"),
            ("[ab]x", "cx"),
            ("*a", "*b"),
            ("", "?"),
        ):
            self.assertFalse(can_overlap(one, other), (one, other))
            self.assertFalse(can_overlap(other, one), (one, other))
