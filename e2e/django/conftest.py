import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import databases  # noqa: E402
from service import Service, free_ports  # noqa: E402
from site_under_test import PASSWORD, SECRETS, Admin, Browser, Site  # noqa: E402

PORTS = free_ports(2)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def site(request):
    """The site, in use before Countersign comes."""
    with getattr(databases, request.param)() as database:
        site = Site(database, PORTS[0])
        with site:
            site.run("adduser", "root", PASSWORD, "--superuser")
            yield site


@pytest.fixture(scope="module")
def service(request, site):
    """Countersign beside the site, as the test's module wants it."""
    name = f"django-{request.module.__name__}"
    with Service.on_free_ports(name, **request.module.SETTINGS) as service:
        # The site knows where it will be.
        service.port, service.operations_port = PORTS
        service.url = f"http://localhost:{service.port}"
        service.settings.update(
            COUNTERSIGN_SERVER__LISTEN=f"127.0.0.1:{PORTS[0]}",
            COUNTERSIGN_SERVER__PUBLIC_URL=service.url,
            COUNTERSIGN_SERVER__OPERATIONS_LISTEN=f"127.0.0.1:{PORTS[1]}",
            COUNTERSIGN_DATABASE__URL=site.database.url,
            COUNTERSIGN_SECRET="7Jq0m1hXo2TnWc5vY8bKd3RfGs6Lp9Ze4AuQxVyN0iE=",
            COUNTERSIGN_CORS__ORIGINS=site.url,
        )
        for secret in [PASSWORD, *SECRETS.values()]:
            service.must_not_log(secret)
        service.start()
        yield service
        assert service.stop() == 0
        assert service.leaked() == []


@pytest.fixture
def browser(site, service):
    return Browser(site, service)


@pytest.fixture(scope="module")
def admin(site, service):
    return Admin(site, service).enter("root")
