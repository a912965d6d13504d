"""Referrers: `/v2/<repository>/referrers/<digest>`, passed on as the upstream says."""

from typing import ClassVar

import attrs

from mirrord.listen.answer import Header
from mirrord.oci.content import OCI_INDEX
from mirrord.oci.routes import ReferrersRoute
from mirrord.web.ports import Referrers
from mirrord.web.resource import Asked, Reply

_INDEX: Header = (b"Content-Type", OCI_INDEX.encode("ascii"))
_FILTERED: Header = (b"OCI-Filters-Applied", b"artifactType")


@attrs.frozen
class ReferrersResource:
    """Answers with an image index of what refers to a digest."""

    kind: ClassVar[str] = "referrers"

    _referrers: Referrers

    async def reply(self, asked: Asked) -> Reply:
        """The index; its Content-Type is compared letter by letter by clients."""
        route = asked.target.route
        assert isinstance(route, ReferrersRoute)  # noqa: S101 - the root dispatches by type
        pulled = await self._referrers.list(asked.source, route.digest, route.artifact_type)
        headers = (_INDEX, _FILTERED) if pulled.is_filtered else (_INDEX,)
        return Reply.of_bytes(pulled.outcome, pulled.body, *headers)
