"""``Valkey``: the values of ``cached(shared=…)`` for all processes, with one call over all of them."""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hotpath.caching.background import run_in_thread
from hotpath.caching.shared.envelope import Codec, SharedValue, packed, unpacked
from hotpath.caching.shared.keys import digest_of, version_of
from hotpath.caching.shared.leases import KEEP, LEASE_SECONDS, LOOK, RELEASE, RENEW, LeaseKeeper
from hotpath.caching.shared.link import BUDGET_SECONDS, OPERATION_SECONDS, RIGHTS, Budget, Link, ServerUnavailable
from hotpath.errors import DeclarationError
from hotpath.log import Once
from hotpath.process.redis_server import Listener, reason

if TYPE_CHECKING:
    import redis

# Pauses between two looks of a caller that waits for another process, in seconds: doubled from the first to the second.
FIRST_PAUSE, LAST_PAUSE = 0.005, 0.1
# A caller waits so long for another process that works on; then it makes the value itself.
MAX_WAIT_SECONDS = 30.0
# What another program, or another version of the codec, has left in the place of a value.
_OF_NO_USE = SharedValue(None, -1.0, -1.0, -1.0)
# A longer value takes longer on its way than an operation may: each call would fail, and open the breaker for all.
MAX_VALUE_BYTES = 1 << 20
_LEASE_MS = round(LEASE_SECONDS * 1000)
# Those whose values some function shares, until they are closed.
_in_use: weakref.WeakSet[Valkey] = weakref.WeakSet()


def in_use() -> list[Valkey]:
    """The servers by which functions of this process share values."""
    return sorted(_in_use, key=repr)


class LocalCopies(Protocol):
    """The local cache of one function in this process."""

    def forget_digest(self, digest: str) -> None:
        """Drop the value whose key has this digest."""
        ...

    def forget_all(self) -> None:
        """Drop every value."""
        ...


class Turn(NamedTuple):
    """What a caller has to do: return ``value``, or make it, with the lease ``token`` or without.

    ``old`` is a value that is no longer fresh, ``place`` the key on the server.
    """

    place: str
    budget: Budget
    value: SharedValue | None = None
    old: SharedValue | None = None
    token: str | None = None


class Valkey:
    """A Valkey or Redis server as the shared second level of ``cached(shared=…)``.

    ``url`` is ``redis://host:6379/0``, ``rediss://…`` or ``unix:///path``; ``prefix`` keeps sites apart that share a
    server. Values are JSON, or bytes as they are; ``codec``, an object with ``dumps`` and ``loads``, is for others.
    ``version`` in place of a digest of each function's own code says whose values may be read. Raises
    ``DeclarationError``.

    No call waits longer than 50 ms for the server, and none fails for it: after three failures, or a slow one, each
    process goes on with its own cache, and asks again every second.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "hotpath",
        codec: Codec | None = None,
        version: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not prefix or any(character.isspace() for character in prefix):
            raise DeclarationError(f"prefix={prefix!r}: write a word, such as the site's name")
        self._prefix = prefix
        self._codec = codec
        self._version = version
        self._clock = clock
        self._copies: weakref.WeakValueDictionary[str, LocalCopies] = weakref.WeakValueDictionary()
        self._once = Once()
        self._link = Link(url, f"{prefix}:probe", self._forget_all, clock)
        self._keeper = LeaseKeeper(self._renew)
        self._listener = Listener(
            self._link.client, f"{prefix}:forget", on_message=self._forget, on_subscribed=self._forget_all
        )
        self.hits = 0
        self.misses = 0

    def __repr__(self) -> str:
        return f"Valkey({self._link.name!r}, prefix={self._prefix!r})"

    @property
    def is_up(self) -> bool:
        """Whether the server is asked now."""
        return self._link.is_up

    def close(self) -> None:
        """End its threads and connections."""
        _in_use.discard(self)
        self._listener.stop()
        self._link.close()

    def problems(self) -> list[str]:
        """What is wrong with the server and its settings, a sentence each.

        Empty where nothing is, or where the server keeps its settings to itself.
        """
        try:
            self._link.client.ping()
        except Exception as error:  # the network's, or any of redis
            return [f"{self._link.name}: it does not answer ({reason(error, RIGHTS)})"]
        with suppress(Exception):
            settings = self._link.client.config_get("maxmemory*")
            found = []
            if settings.get("maxmemory") == "0":
                found.append("it has no maxmemory and grows until the kernel kills it: write maxmemory 256mb")
            policy = settings.get("maxmemory-policy")
            if policy != "allkeys-lru":
                found.append(f"its maxmemory-policy is {policy}: write allkeys-lru, or it refuses when it is full")
            return [f"{self._link.name}: {problem}" for problem in found]
        return []

    # For Memo

    def register(self, function: Callable[..., Any], name: str, copies: LocalCopies) -> str:
        """The name under which a function's values are kept. ``copies`` is held weakly."""
        version = self._version if self._version is not None else version_of(function)
        full = f"{self._prefix}:{name}:{version}"
        self._copies[full] = copies
        _in_use.add(self)
        return full

    def turn(self, name: str, key: Hashable) -> Turn:
        """Look, take the lease, or wait for who has it. Waits for another call at most ``MAX_WAIT_SECONDS``."""
        turn = Turn(f"{name}:{digest_of(key)}", Budget())
        self._listener.start()
        with suppress(ServerUnavailable):
            turn = self._turn(turn)
        if turn.value is None:
            self.misses += 1
        else:
            self.hits += 1
        return turn

    def _turn(self, turn: Turn) -> Turn:
        place, budget = turn.place, turn.budget
        give_up, pause = self._clock() + MAX_WAIT_SECONDS, FIRST_PAUSE
        token, takes_old = secrets.token_hex(8), False
        while True:
            is_ours, found = self._link.run(lambda client: self._look(client, place, token, takes_old), budget)  # noqa: B023
            if is_ours:
                self._keeper.hold(_lease(place), token)
                turn = turn._replace(old=found, token=token)
                if found is None or found.fresh <= 0:
                    return turn
                self.give_back(turn)  # made between two looks
            if found is not None and (found.fresh > 0 or (takes_old and found.stale > 0)):
                return Turn(place, budget, value=found)  # fresh, or another process makes the new one
            if found is not None and not takes_old:
                takes_old = True
                continue
            if self._clock() > give_up:
                return turn._replace(old=found)
            takes_old = False
            time.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
            budget.left = BUDGET_SECONDS  # it waited for a value, not for the server

    def keep(self, turn: Turn, value: Any, lifetimes: tuple[float, float, float]) -> None:
        """Keep what the holder of a lease made, for seconds of being fresh, stale and of use after an error.

        Not where the lease is somebody else's by now, or nobody's: the value was invalidated meanwhile.
        """
        token, place = turn.token, turn.place
        assert token is not None
        try:
            data = packed(value, self._codec, *lifetimes)
            if len(data) > MAX_VALUE_BYTES:
                raise ValueError(f"{len(data):,} bytes are more than {MAX_VALUE_BYTES:,}")
        except Exception as error:  # whatever a codec raises
            function = place.rpartition(":")[0]
            self._once.warn(
                f"what {function} returned is not shared ({error}): let it return what JSON can hold, and less "
                "of it, or write Valkey(codec=…)",
                function,
            )
            self.give_back(turn)
            return
        ends = max(1, round(max(lifetimes) * 1000))
        self._end(turn, lambda client: client.eval(KEEP, 2, place, _lease(place), token, data, ends))

    def give_back(self, turn: Turn) -> None:
        """Let the lease go without a value: the next caller tries at once."""
        token, place = turn.token, turn.place
        assert token is not None
        self._end(turn, lambda client: client.eval(RELEASE, 1, _lease(place), token))

    def _end(self, turn: Turn, operation: Callable[[redis.Redis], Any]) -> None:
        """End a lease by ``operation``: in this call where its budget has room, else beside it."""
        self._keeper.let_go(_lease(turn.place))

        def end(budget: Budget) -> None:
            with suppress(ServerUnavailable):
                self._link.run(operation, budget)

        if turn.budget.left < OPERATION_SECONDS:
            run_in_thread(lambda: end(Budget()))
        else:
            end(turn.budget)

    def forget(self, name: str, key: Hashable) -> None:
        """Forget a value here, and tell the other processes."""
        digest = digest_of(key)
        place = f"{name}:{digest}"

        def forget(client: redis.Redis) -> None:
            with client.pipeline(transaction=False) as batch:
                batch.delete(place, _lease(place))
                batch.publish(f"{self._prefix}:forget", f"{name} {digest}")
                batch.execute()

        with suppress(ServerUnavailable):
            self._link.run(forget, Budget())

    # Operations, each one round trip

    def _look(self, client: redis.Redis, place: str, token: str, takes_old: bool) -> tuple[bool, SharedValue | None]:
        """Whether the lease is this caller's now, and the value: with the lease it is the newest there is.

        Where a value is there, the lease is taken only with ``takes_old``.
        """
        is_ours, data, left = client.eval(
            LOOK, 2, place, _lease(place), token, _LEASE_MS, int(takes_old), MAX_VALUE_BYTES
        )
        return is_ours == 1, None if data is None else unpacked(data, left, self._codec) or _OF_NO_USE

    def _renew(self, lease: str, token: str) -> None:
        self._link.run(lambda client: client.eval(RENEW, 1, lease, token, _LEASE_MS), Budget())

    def _forget(self, message: str) -> None:
        name, _, digest = message.partition(" ")
        copies = self._copies.get(name)
        if copies is not None:
            copies.forget_digest(digest)

    def _forget_all(self) -> None:
        for copies in list(self._copies.values()):
            copies.forget_all()


def _lease(place: str) -> str:
    return f"{place}:lease"
