import sys
from pathlib import Path

import pytest

E2E = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(E2E / "python"), str(E2E)]

from apis import EXAMPLES, GO, Api, build_go  # noqa: E402


@pytest.fixture(scope="session", params=EXAMPLES)
def example(request):
    """Which of the examples is tried."""
    if request.param == GO:
        build_go()
    return request.param


@pytest.fixture
def start_api(example):
    """Starts the example beside an issuer: `start_api(url, audience=…)`."""
    started = []

    def start(issuer, **settings):
        started.append(Api(example, issuer, **settings))
        return started[-1].start()

    yield start
    for api in started:
        api.stop()
