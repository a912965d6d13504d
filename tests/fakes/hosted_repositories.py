"""Hosted repositories in memory, as the operator's use cases see them; a page is one item."""

from collections.abc import Iterator

import attrs

from mirrord.oci.content import ContentKind, HostedLink, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryName, Tag

PUSHED_AT = 70.0


@attrs.define(eq=False)
class FakeHostedRepositories:
    """Links and tags in dictionaries; `gone` is what the disk has lost, `needed` is not thinned."""

    held: dict[tuple[RepositoryName, Digest, bool], HostedLink] = attrs.field(factory=dict)
    named: dict[tuple[RepositoryName, Tag], Digest] = attrs.field(factory=dict)
    children: dict[Digest, tuple[Digest, ...]] = attrs.field(factory=dict)
    gone: list[tuple[ContentKind, Digest]] = attrs.field(factory=list)
    needed: set[Digest] = attrs.field(factory=set)

    def push(
        self, repository: RepositoryName, manifest: Manifest, *tags: str, subject: Digest | None = None
    ) -> Digest:
        """Have a manifest, with all blobs that it names unless they are manifests, and its tags."""
        digest = manifest.digest
        self.held[repository, digest, True] = HostedLink(
            descriptor=manifest.descriptor, is_manifest=True, linked_at=PUSHED_AT, subject=subject
        )
        self.children[digest] = tuple(
            named.digest for named in manifest.references() if (repository, named.digest, True) in self.held
        )
        for named in manifest.references():
            if named.digest not in self.children[digest]:
                self.held[repository, named.digest, False] = HostedLink(
                    descriptor=named, is_manifest=False, linked_at=PUSHED_AT
                )
        self.named.update(((repository, Tag(tag)), digest) for tag in tags)
        return digest

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        names = sorted({repository for repository, _, _ in self.held})
        return [name for name in names if name.name > after][:limit]

    def links(self, repository: RepositoryName) -> Iterator[list[HostedLink]]:
        yield from ([link] for (of, _, _), link in self.held.items() if of == repository)

    def tagged(self, repository: RepositoryName) -> Iterator[list[tuple[Tag, Digest, float]]]:
        yield from (
            [(tag, digest, PUSHED_AT)] for (of, tag), digest in self.named.items() if of == repository
        )

    def tag(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        digest = self.named.get((repository, tag))
        return None if digest is None else self.held[repository, digest, True].descriptor

    def link(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> HostedLink | None:
        kinds = (True, False) if is_manifest is None else (is_manifest,)
        return next(filter(None, (self.held.get((repository, digest, kind)) for kind in kinds)), None)

    def repositories_with(self, digest: Digest, *, is_manifest: bool = False) -> Iterator[RepositoryName]:
        yield from (of for of, held, kind in self.held if (held, kind) == (digest, is_manifest))

    def lost(self) -> Iterator[list[tuple[RepositoryName, ContentKind, Digest]]]:
        for repository, digest, is_manifest in self.held:
            kind = ContentKind.MANIFEST if is_manifest else ContentKind.BLOB
            yield [(repository, kind, digest)] if (kind, digest) in self.gone else []

    async def delete(self, repository: RepositoryName, digest: Digest) -> bool:
        links = [self.held.pop((repository, digest, kind), None) for kind in (True, False)]
        self._untag(repository, digest)
        return any(links)

    async def delete_repository(self, repository: RepositoryName) -> bool:
        links = [key for key in self.held if key[0] == repository]
        for key in links:
            del self.held[key]
            self._untag(repository, key[1])
        return bool(links)

    def manifests(self, repository: RepositoryName) -> Iterator[list[HostedManifest]]:
        for (of, digest, is_manifest), link in self.held.items():
            if of == repository and is_manifest:
                yield [
                    HostedManifest(
                        digest=digest,
                        size=1,
                        idle_seconds=9.0,
                        subject=link.subject,
                        children=self.children.get(digest, ()),
                    )
                ]

    def tags(self, repository: RepositoryName) -> Iterator[list[HostedTag]]:
        yield from (
            [HostedTag(tag, digest, 9.0)] for (of, tag), digest in self.named.items() if of == repository
        )

    async def apply_plan(self, thinning: RetentionPlan) -> tuple[int, int]:
        for tag in thinning.tags:
            del self.named[thinning.repository, tag.tag]
        for manifest in thinning.manifests:
            if manifest.digest not in self.needed:
                del self.held[thinning.repository, manifest.digest, True]
        return len(thinning.tags), len(thinning.manifests)

    def _untag(self, repository: RepositoryName, digest: Digest) -> None:
        self.named = {
            key: named for key, named in self.named.items() if (key[0], named) != (repository, digest)
        }
