"""Send mutated requests to a daemon, as bytes on a socket."""

import random
import re
from collections.abc import Iterator, Sequence

from tests.fuzz.fuzzing import Failure
from tests.fuzz.mutation import CORPUS, mutate, read_inputs, read_tokens
from tests.integration.raw import RawResponse, exchange

REQUESTS = "requests"
"""The name of this target, and of its corpus."""

_BATCH = 100
"""Requests at a time; many of them never end, and then all wait for the timeout of `exchange`."""
_WELCOME = re.compile(rb"(?:GET|HEAD) /(?:\?\S*)? ")


def send(port: int, cases: int, seed: int) -> Iterator[Failure]:
    """Send the corpus, and then mutations of it."""
    inputs, tokens = read_inputs(CORPUS / REQUESTS), read_tokens(CORPUS / REQUESTS)
    yield from _send(port, inputs)
    for number in range(cases // _BATCH):
        dice = random.Random(f"{seed} {number}")
        yield from _send(port, [mutate(inputs, tokens, dice) for _ in range(_BATCH)])


def _send(port: int, requests: Sequence[bytes]) -> Iterator[Failure]:
    for response in exchange(port, requests):
        problem = _problem(response)
        if problem is not None:
            yield Failure(REQUESTS, response.request, f"{problem}: {response.content[:300]!r}")


def _problem(response: RawResponse) -> str | None:
    """Return what is wrong with a response: an error of the server, HTML, or an error without a code."""
    if response.status is None:
        return None
    if response.status >= 500:
        return "an error of the server"
    is_welcome = response.status == 200 and _WELCOME.match(response.request)
    if not is_welcome and (b"text/html" in response.head.lower() or b"<html" in response.body.lower()):
        return "HTML"
    if response.status >= 400 and response.body and b'"errors"' not in response.body:
        return "an error without a code"
    return None
