"""Settings of the example; what hotpath adds is marked."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-the-example")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]

INSTALLED_APPS = [
    "hotpath.contrib.django",  # manage.py hotpath, and checks
    "screener",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "mysite.urls"
ASGI_APPLICATION = "mysite.asgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SCREENER_DATABASE", BASE_DIR / "db.sqlite3"),
        "TEST": {"NAME": os.environ.get("SCREENER_TEST_DATABASE", BASE_DIR / "test.sqlite3")},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True

HOTPATH_STORE = os.environ.get("SCREENER_STORE", BASE_DIR / "var" / "hot")  # where generations live
HOTPATH_KEEP = 7
