"""The hot pages of the Django site, as Django projects declare them."""

from hotpath.contrib.django import hot
from tests.wire.differential.nginx_pages import declare

declare(hot)
