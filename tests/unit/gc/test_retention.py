from collections.abc import Generator, Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.retention import RetentionRule, RetentionRules, plan_retention
from mirrord.oci.content import HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag

APP = RepositoryName("team/app")
DAY = 86400.0


def digest(number: int) -> Digest:
    return Digest.of(b"%d" % number)


def manifest(
    number: int, idle: float = 0.0, children: Sequence[int] = (), subject: int | None = None
) -> HostedManifest:
    about = None if subject is None else digest(subject)
    return HostedManifest(
        digest=digest(number), size=1, idle_seconds=idle, subject=about, children=tuple(map(digest, children))
    )


def tag(name: str, number: int, age: float = 0.0) -> HostedTag:
    return HostedTag(Tag(name), digest(number), age)


def plan(
    manifests: Sequence[HostedManifest], tags: Sequence[HostedTag], *rules: RetentionRule
) -> RetentionPlan:
    planning = plan_retention(APP, {each.digest: each for each in manifests}, tags, rules)
    planned: list[RetentionPlan] = []

    def run() -> Generator[None, None, None]:
        planned.append((yield from planning))

    for _ in run():
        pass
    return planned[0]


class RetentionTests(SynchronousTestCase):
    def check(
        self,
        manifests: Sequence[HostedManifest],
        tags: Sequence[HostedTag],
        *rules: RetentionRule,
        tags_removed: Sequence[str] = (),
        removed: Sequence[int] = (),
    ) -> None:
        planned = plan(manifests, tags, *rules)
        self.assertEqual(sorted(tags_removed), sorted(str(each.tag) for each in planned.tags))
        self.assertEqual(sorted(map(digest, removed)), sorted(each.digest for each in planned.manifests))

    def test_rule_numbers(self) -> None:
        """The plan has the number of the rule that removes a tag or an untagged manifest."""
        manifests = [manifest(1, DAY), manifest(2, DAY), manifest(3, children=[4]), manifest(4)]
        old, about = tag("v1", 3, DAY), tag(f"sha256-{digest(3).encoded}.sig", 2)
        rules = RetentionRule(tags="v*", older_than=DAY, number=4), RetentionRule(untagged_for=DAY, number=7)
        planned = plan(manifests, [old, about], *rules)
        self.assertEqual({Tag("v1"): 4, digest(3): 4, digest(1): 7}, planned.rules)
        self.assertEqual(({old, about}, 4), (set(planned.tags), len(planned.manifests)))

    def test_kept_manifests_have_no_rule(self) -> None:
        """A manifest that a rule would remove, but something needs, has no rule number."""
        manifests = [manifest(1, DAY), manifest(2, DAY, children=[1])]
        planned = plan(manifests, [tag("v1", 2)], RetentionRule(untagged_for=DAY, number=7))
        self.assertEqual(((), {}), (planned.manifests, planned.rules))

    def test_untagged(self) -> None:
        """A manifest is removed once it has been untagged for as long as the rule says."""
        manifests = [manifest(1, 7 * DAY), manifest(2, 7 * DAY - 1), manifest(3, 9 * DAY)]
        self.check(manifests, [tag("v1", 3)], RetentionRule(untagged_for=7 * DAY), removed=[1])

    def test_no_rule_for_untagged(self) -> None:
        """A rule without `untagged_for` removes no untagged manifest."""
        self.check([manifest(1, 999 * DAY)], [], RetentionRule(newest=1))

    def test_newest(self) -> None:
        """All matching tags but the newest are removed, each with its manifest."""
        manifests = [manifest(number) for number in range(4)]
        tags = [tag(f"v{number}", number, age=float(number)) for number in range(3)] + [tag("x", 3, 99.0)]
        rule = RetentionRule(tags="v*", newest=1)
        self.check(manifests, tags, rule, tags_removed=["v1", "v2"], removed=[1, 2])

    def test_both_conditions(self) -> None:
        """A tag among the newest stays however old it is, and a young one however many are newer."""
        manifests = [manifest(number) for number in range(4)]
        tags = [tag(f"v{number}", number, age=number * DAY) for number in range(4)]
        rule = RetentionRule(newest=2, older_than=3 * DAY)
        self.check(manifests, tags, rule, tags_removed=["v3"], removed=[3])
        rule = RetentionRule(older_than=2 * DAY)
        self.check(manifests, tags, rule, tags_removed=["v2", "v3"], removed=[2, 3])

    def test_first_match(self) -> None:
        """The first rule that matches a tag decides about it."""
        manifests = [manifest(1), manifest(2)]
        tags = [tag("release-1", 1, 100 * DAY), tag("pr-1", 2, 100 * DAY)]
        rules = RetentionRule(tags="release-*", newest=50), RetentionRule(tags="*", older_than=30 * DAY)
        self.check(manifests, tags, *rules, tags_removed=["pr-1"], removed=[2])

    def test_last_tag(self) -> None:
        """A manifest stays when one of its tags is removed and another still names it."""
        tags = [tag("v1", 1, 9.0), tag("stable", 1, 9.0)]
        self.check([manifest(1)], tags, RetentionRule(tags="v*", older_than=5.0), tags_removed=["v1"])

    def test_children(self) -> None:
        """A child stays as long as an index that names it, and is removed with the last, however young."""
        manifests = [
            manifest(1, children=[2, 3]),
            manifest(4, children=[3]),
            manifest(2, 99.0),
            manifest(3, 0.0),
        ]
        tags = [tag("v1", 1, 9.0), tag("v2", 4, 0.0)]
        rule = RetentionRule(untagged_for=50.0, older_than=5.0)
        self.check(manifests, tags, rule, tags_removed=["v1"], removed=[1, 2])
        without = [one for one in manifests if one.digest != digest(4)]
        self.check(without, tags[:1], rule, tags_removed=["v1"], removed=[1, 2, 3])

    def test_referrers(self) -> None:
        """A referrer stays as long as its subject, and is removed with it."""
        manifests = [manifest(1), manifest(2, 99.0, subject=1), manifest(3, 99.0, subject=2)]
        rule = RetentionRule(untagged_for=50.0, newest=1)
        self.check(manifests, [tag("v1", 1, 9.0)], rule)
        tags = [tag("v1", 1, 9.0), tag("v2", 9, 0.0)]
        self.check([*manifests, manifest(9)], tags, rule, tags_removed=["v1"], removed=[1, 2, 3])

    def test_absent_subject(self) -> None:
        """A referrer of an absent subject is removed like any untagged manifest."""
        self.check([manifest(2, 99.0, subject=1)], [], RetentionRule(untagged_for=50.0), removed=[2])
        self.check([manifest(2, 9.0, subject=1)], [], RetentionRule(untagged_for=50.0))

    def test_referrers_tag(self) -> None:
        """A tag made of a subject's digest is no version; it stays and is removed with its subject."""
        signature = tag(f"sha256-{digest(1).encoded}.sig", 2, 0.0)
        manifests = [manifest(1), manifest(2), manifest(3)]
        self.check(manifests, [tag("v1", 1, 9.0), signature], RetentionRule(newest=1), removed=[])
        tags = [tag("v1", 1, 9.0), signature, tag("v2", 3, 0.0)]
        names = ["v1", str(signature.tag)]
        self.check(manifests, tags, RetentionRule(newest=1), tags_removed=names, removed=[1, 2])

    def test_repositories(self) -> None:
        """A rule applies to the repositories that match one of its patterns."""
        rules = (
            RetentionRule(repositories=("team/*",), newest=1),
            RetentionRule(repositories=("other", "team/app"), newest=2),
        )
        self.assertEqual(rules, RetentionRules(rules=rules).rules_for(APP))
        self.assertEqual((), RetentionRules(rules=rules).rules_for(RepositoryName("library/x")))

    @given(st.data())
    def test_any_repository(self, data: st.DataObject) -> None:
        """Whatever the rules, what stays is complete, and parents are removed before their children."""
        count = data.draw(st.integers(1, 12))
        numbers = st.integers(0, count - 1)
        has_subjects = data.draw(st.booleans())
        manifests = [
            manifest(
                number,
                data.draw(st.floats(0, 100)),
                [child for child in data.draw(st.lists(numbers, max_size=3)) if child < number],
                number - 1 if number and has_subjects and data.draw(st.booleans()) else None,
            )
            for number in range(count)
        ]
        named = data.draw(st.lists(st.tuples(numbers, st.floats(0, 100)), max_size=8))
        tags = [tag(f"t{place}", number, age) for place, (number, age) in enumerate(named)]
        limits = st.one_of(st.none(), st.floats(0, 100))
        rule = RetentionRule(
            untagged_for=data.draw(limits),
            newest=data.draw(st.one_of(st.none(), st.integers(0, 4))),
            older_than=data.draw(limits),
        )
        planned = plan(manifests, tags, rule)
        removed = {each.digest: place for place, each in enumerate(planned.manifests)}
        staying = {each.digest: each for each in manifests if each.digest not in removed}
        for one in staying.values():
            self.assertTrue(set(one.children) <= staying.keys())
        for one in manifests:
            if one.subject in staying:
                self.assertIn(one.digest, staying)
            for child in one.children if one.digest in removed and not has_subjects else ():
                self.assertLess(removed[one.digest], removed.get(child, count))
        self.assertTrue({each.digest for each in tags if each not in planned.tags} <= staying.keys())
