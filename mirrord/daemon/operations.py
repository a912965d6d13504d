"""Operations: the operator's use cases, composed for one configuration."""

from functools import partial

from mirrord.access.rules import Action, Rules
from mirrord.admin.explanation import Explainer
from mirrord.admin.listing import RepositoryLister
from mirrord.admin.operations import Operations, Remover
from mirrord.admin.pull import ImagePuller
from mirrord.admin.results import Permissions
from mirrord.admin.verification import Verifier
from mirrord.config.access import AccessConfig
from mirrord.config.config import Config
from mirrord.daemon.runtime import Runtime
from mirrord.repository import Repository
from mirrord.routing import Router


def build_operations(runtime: Runtime, config: Config, router: Router) -> Operations:
    """Compose the operator's use cases for the repositories of `config`."""
    store, clock = runtime.store, runtime.reactor
    return Operations(
        lister=RepositoryLister(router, store.browser.flush, clock),
        remover=Remover(router),
        collector=runtime.collector,
        puller=ImagePuller(router, clock),
        verifier=Verifier(
            audit=store.audit,
            reconciled=store.reconciled,
            browser=store.browser,
            hosted=store.hosted,
            router=router,
            is_busy=lambda: store.eviction.busy_bytes > 0,
            lock=runtime.verification_lock,
            clock=clock,
        ),
        explainer=Explainer(
            router=router,
            permissions=partial(_permissions, config.access),
            last_clients=runtime.last_clients,
        ),
        is_hosted=router.is_hosted,
    )


def _permissions(access: AccessConfig | None, repository: Repository) -> Permissions | None:
    """Return who may do what in a repository; None if there are no rules."""
    if access is None:
        return None
    rules = Rules.of(access)
    pull, push, delete = (
        tuple(sorted(map(str, rules.principals(action, repository.key))))
        for action in (Action.PULL, Action.PUSH, Action.DELETE)
    )
    return Permissions(pull, (), ()) if repository.writer is None else Permissions(pull, push, delete)
