"""The Django site for a server."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.wire.differential.django_site.settings")

from hotpath.contrib.django import get_asgi_application

application = get_asgi_application(
    bypass=lambda scope: any(name == b"cookie" and b"sessionid=" in value for name, value in scope["headers"])
)
