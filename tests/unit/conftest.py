"""Trial creates its temporary folders in the working directory; make that a folder of pytest's."""

from collections.abc import Iterator
from contextlib import chdir

import pytest


@pytest.fixture(autouse=True, scope="module")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with chdir(tmp_path_factory.mktemp("trial")):
        yield
