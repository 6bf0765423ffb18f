"""A front in a process of its own, whose memory can be looked at: python -m tests.front.forward_main ADDRESS PORT."""

from __future__ import annotations

import sys

import uvicorn

from hotpath.front.address import Address
from hotpath.front.exact import ExactProtocol
from hotpath.front.forward import Forward
from hotpath.front.upstream import Upstream

if __name__ == "__main__":
    forward = Forward(Upstream(Address.parse(sys.argv[1])))
    uvicorn.run(
        forward, port=int(sys.argv[2]), http=ExactProtocol, log_level="error", interface="asgi3", proxy_headers=False
    )
