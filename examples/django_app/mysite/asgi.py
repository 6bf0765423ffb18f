"""What the server runs: ``uvicorn mysite.asgi:application``."""

import os

from hotpath.contrib.django import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
application = get_asgi_application()
