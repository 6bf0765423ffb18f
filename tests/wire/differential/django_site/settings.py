"""The settings of the Django site."""

import os

INSTALLED_APPS = ["hotpath.contrib.django", "tests.wire.differential.django_site"]
HOTPATH_STORE = os.environ["HOTPATH_TEST_STORE"]
HOTPATH_REFRESH = 0.1
ROOT_URLCONF = "tests.wire.differential.django_site.urls"
ALLOWED_HOSTS = ["example.org", "127.0.0.1"]
SECRET_KEY = "for a test"
MIDDLEWARE: list[str] = []
USE_X_FORWARDED_HOST = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
