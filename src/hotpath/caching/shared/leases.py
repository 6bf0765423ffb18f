"""One call over all processes: who holds the lease of a key makes its value."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hotpath.process import after_fork

# A holder that dies costs the others so long. One that works for longer renews it.
LEASE_SECONDS = 2.0
RENEW_SECONDS = LEASE_SECONDS / 3
# The thread that renews ends after so long without a lease.
IDLE_SECONDS = 10.0

# One round trip looks and takes: a caller on a busy machine may not get a second one within its budget. What is there,
# fresh or not, is for the caller to say; it takes the lease of an old value by ARGV[3]. Where a first try was lost on
# its way back, the lease is the caller's already. What another program has put into these places is no reason to leave
# the whole server alone: a value that is a list, or longer than ARGV[4], is an empty one; a lease that never ends, or
# that is no text, is nobody's.
LOOK = """
local value = redis.pcall('strlen', KEYS[1])
if type(value) == 'number' and value > tonumber(ARGV[4]) then
    value = ''
else
    value = redis.pcall('get', KEYS[1])
    if type(value) == 'table' then
        if not string.find(value.err, 'WRONGTYPE', 1, true) then return value end
        value = ''
    end
end
local is_ours = 0
if not value or ARGV[3] == '1' then
    local holder = redis.pcall('get', KEYS[2])
    if holder and (type(holder) == 'table' or redis.call('pttl', KEYS[2]) == -1) then
        redis.call('del', KEYS[2])
    end
    if holder == ARGV[1] or redis.call('set', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
        is_ours = 1
    end
end
return {is_ours, value, redis.call('pttl', KEYS[1])}
"""
# Only the holder's own: after a pause of the process the key may have another holder.
RELEASE = "if redis.pcall('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
KEEP = """
if redis.pcall('get', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3])
return redis.call('del', KEYS[2])
"""
RENEW = "if redis.pcall('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"


class LeaseKeeper:
    """Renews the leases of this process while their functions run, in one thread."""

    def __init__(self, renew: Callable[[str, str], Any]) -> None:
        self._renew = renew
        self.restart_after_fork()
        after_fork.register(self)

    def restart_after_fork(self) -> None:
        """The child holds none of its parent's leases."""
        self._lock = threading.Lock()
        self._held: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    def hold(self, name: str, token: str) -> None:
        """Renew this lease until it is let go."""
        with self._lock:
            self._held[name] = token
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="hotpath-leases", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads: a call of more than LEASE_SECONDS may be made twice
                self._thread = None

    def let_go(self, name: str) -> None:
        """Renew it no more."""
        with self._lock:
            self._held.pop(name, None)

    def _run(self) -> None:
        idle = 0.0
        while True:
            time.sleep(RENEW_SECONDS)
            with self._lock:
                held = dict(self._held)
                idle = 0.0 if held else idle + RENEW_SECONDS
                if idle > IDLE_SECONDS:
                    self._thread = None
                    return
            for name, token in held.items():
                with suppress(Exception):
                    self._renew(name, token)
