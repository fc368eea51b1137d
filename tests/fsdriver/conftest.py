import pytest

from fsdriver.backing import Backing
from tests.fsdriver.bench import Bench


@pytest.fixture
def backing():
    """One that fails, where a test says so."""
    return Backing()


@pytest.fixture
def bench(tmp_path, backing):
    made = Bench(tmp_path, backing)
    yield made
    made.close()
