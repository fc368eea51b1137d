import pytest
from driver import Driver


@pytest.fixture
def driver(tmp_path):
    made = Driver(str(tmp_path))
    yield made
    made.close()
