"""Referrers: `/v2/<repository>/referrers/<digest>`, the manifests that refer to a digest."""

from urllib.parse import urlencode

import attrs

from mirrord.api.registry_request import RegistryRequest
from mirrord.http.response import Header, Response
from mirrord.oci.manifests import OCI_INDEX
from mirrord.oci.routes import ReferrersRoute

_CONTENT_TYPE: Header = (b"Content-Type", OCI_INDEX.encode("ascii"))
"""Clients compare it letter by letter."""

_FILTERED: Header = (b"OCI-Filters-Applied", b"artifactType")


@attrs.frozen
class ReferrersHandler:
    """Responds with lists of referrers, page by page."""

    async def read(self, request: RegistryRequest, route: ReferrersRoute) -> Response:
        """Return a page of the index."""
        result = await request.repository.list_referrers(route.digest, route.artifact_type, route.last)
        headers = [_CONTENT_TYPE]
        if result.is_filtered:
            headers.append(_FILTERED)
        if result.next_after is not None:
            query = {"last": result.next_after}
            if route.artifact_type is not None:
                query["artifactType"] = route.artifact_type
            link = f'</v2/{route.repository}/referrers/{route.digest}?{urlencode(query)}>; rel="next"'
            headers.append((b"Link", link.encode("ascii")))
        return Response(200, tuple(headers), len(result.body), body=result.body, cache=result.cache)
