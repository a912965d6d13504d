"""Retries: asking again for what may pass by itself, within a budget."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mirrord.flight.backoff import backoff_seconds
from mirrord.oci.errors import AccountRefused, UpstreamError
from mirrord.upstream.deadline import Deadline

T = TypeVar("T")

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 4.0
WORTHWHILE_SECONDS = 0.2
"""With less than this left after a wait, asking again is not worth it."""


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    deadline: Deadline,
    clock: IReactorTime,
    random: Random,
    final: tuple[type[UpstreamError], ...] = (AccountRefused,),
    retried: Callable[[], None] = lambda: None,
) -> T:
    """The first good result of `call`, tried `attempts` times at most; a `final` error ends it.

    `retried` is told of every try but the first.

    Waits longer each time, by half at random, and at least as long as the upstream asked for; where
    that is beyond the deadline, the error is the result at once.
    """

    def wait(state: RetryCallState) -> float:
        own = backoff_seconds(
            state.attempt_number, first=FIRST_WAIT_SECONDS, longest=MAX_WAIT_SECONDS, random=random.random
        )
        return max(own, _error_of(state).retry_after_seconds or 0.0)

    def is_last(state: RetryCallState) -> bool:
        left = deadline.remaining_seconds - state.upcoming_sleep
        return state.attempt_number >= attempts or left < WORTHWHILE_SECONDS

    def may_pass(error: BaseException) -> bool:
        return isinstance(error, UpstreamError) and not isinstance(error, final)

    async def sleep(seconds: float) -> None:
        await deferLater(clock, seconds)
        retried()

    async def attempt() -> T:
        return await call()

    retrying = AsyncRetrying(
        sleep=sleep, stop=is_last, wait=wait, retry=retry_if_exception(may_pass), reraise=True
    )
    return await retrying(attempt)


def _error_of(state: RetryCallState) -> UpstreamError:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, UpstreamError) else UpstreamError("")
