"""A site whose every answer says for whom it was made, and clients that look for one made for somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.front.failing_origin import Request, Script, answer

USERS: Final = ("alice", "bob", "nobody")  # nobody is the crawler: it has no session
SESSIONS: Final = ("cookie", "bearer", "token", "field", "none")
PAGES: Final = 3
# Longest that a client waits for an answer.
LONGEST_SECONDS: Final = 10.0
STATUSES: Final = (200, 200, 404)

# What the app says of its pages, right or wrong.
CONTROLS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "silent": (),
    "fresh": (("Cache-Control", "max-age=60"),),
    "stale": (("Cache-Control", "max-age=0"),),
    "public": (("Cache-Control", "public, max-age=60"),),
    "shared": (("Cache-Control", "s-maxage=60"),),
    "error": (("Cache-Control", "max-age=0, stale-if-error=600, stale-while-revalidate=600"),),
    "private": (("Cache-Control", "private"),),
    "private-fresh": (("Cache-Control", "max-age=60"), ("Cache-Control", "private")),
    "no-store": (("Cache-Control", "no-store"),),
    "no-cache": (("Cache-Control", "no-cache"), ("ETag", '"same"')),
    "set-cookie": (("Cache-Control", "max-age=60"), ("Set-Cookie", "seen=1")),
    "vary": (("Cache-Control", "max-age=60"), ("Vary", "Cookie, Authorization")),
    "validated": (("Cache-Control", "max-age=0"), ("ETag", '"same"'), ("Vary", "Cookie, Authorization")),
}
# What no cache may give to anybody without asking the app.
UNSHARED: Final = frozenset(("private", "private-fresh", "no-store", "no-cache", "set-cookie"))
TARGETS: Final = [
    f"/{session}/{control}/{page}" for session in SESSIONS for control in CONTROLS for page in range(PAGES)
]


def user_of(request: Request) -> str:
    """Whose page the app makes: what the session of this part of the site says."""
    session = request.target.split("/")[1]
    if session == "none":
        return "everybody"
    value = {
        "cookie": request.fields.get("cookie", "").partition("session=")[2],
        "bearer": request.fields.get("authorization", "").removeprefix("Bearer "),
        "token": request.target.partition("?token=")[2],
        "field": request.fields.get("x-user", ""),
    }[session]
    return value or "nobody"


def page_of(request: Request, *, status: int | None = None) -> Script:
    """The app's answer."""
    _, session, control, rest = request.target.split("/")
    user = user_of(request)
    fields = [*CONTROLS[control], ("X-For", user), ("X-Target", request.target)]
    if session == "field":
        fields.append(("Vary", "X-User"))
    body = f"for={user} target={request.target} end\n".encode()
    if status is None:
        status = STATUSES[int(rest[0])]
    if '"same"' in request.fields.get("if-none-match", "") and ("ETag", '"same"') in fields and status == 200:
        return answer(b"", tuple(fields), 304)
    return answer(body, tuple(fields), status)


def failing(request: Request, rng: random.Random) -> Script:
    """One of the ways in which an app fails: also with a page of somebody, whole or not."""
    whole = page_of(request)
    return rng.choice(
        (
            Script(then="reset"),
            Script(then="close"),
            page_of(request, status=500),
            page_of(request, status=503),
            Script(whole.data[: len(whole.data) // 2], "reset"),
            Script(whole.data[:-4], "close"),
            Script(b"\x00garbage", "close"),
        )
    )


def credentials(session: str, user: str) -> tuple[dict[str, str], str]:
    """Fields and query with which ``user`` asks in a part of the site."""
    if session == "none":
        # Somebody who is logged in reads a page that is the same for all.
        return ({"Cookie": f"session={user}"} if user == "alice" else {}), ""
    if session == "token":
        return {}, f"?token={user}"
    if user == "nobody":
        return {}, ""
    return {
        "cookie": {"Cookie": f"theme=dark; session={user}"},
        "bearer": {"Authorization": f"Bearer {user}"},
        "field": {"X-User": user},
    }[session], ""


@dataclass(frozen=True, slots=True)
class Came:
    """An answer as a client sees it."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def is_from_cache(self) -> bool:
        return "; hit" in self.fields.get("cache-status", "")


def leak_of(session: str, user: str, target: str, came: Came) -> str | None:
    """What is wrong with an answer: made for somebody else, another page, put together from two, or not to be kept."""
    if came.is_from_cache and target.split("/")[2] in UNSHARED:
        return f"{target} of {user}: from the cache"
    wanted = "everybody" if session == "none" else user
    made_for = came.fields.get("x-for")
    if made_for is None:
        return None if b"for=" not in came.body else f"{target} of {user}: a page without its name"
    if made_for != wanted or came.fields.get("x-target") != target:
        return f"{target} of {user}: made for {made_for}, {came.fields.get('x-target')}"
    if came.status in (200, 404, 500, 503) and came.body not in (b"", f"for={wanted} target={target} end\n".encode()):
        return f"{target} of {user}: {came.body!r}"
    return None


@dataclass(slots=True)
class Crowd:
    """Clients on kept connections that all of them share: the same connection asks for Alice, then for Bob.

    ``seen`` counts what came: statuses, answers of the cache by part of the site, broken connections.
    """

    port: int
    seed: int
    seen: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)

    async def run(self, requests: int, clients: int) -> None:
        shares = [requests // clients] * clients
        await asyncio.gather(*(self._client(number, share) for number, share in enumerate(shares)))

    async def _client(self, number: int, share: int) -> None:
        rng = random.Random(self.seed * 1000 + number)
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for _ in range(share):
            try:
                if streams is None:
                    streams = await asyncio.open_connection("127.0.0.1", self.port)
                if not await asyncio.wait_for(self._one(rng, *streams), LONGEST_SECONDS):
                    streams[1].close()
                    streams = None
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                self.seen["late" if isinstance(error, asyncio.TimeoutError) else "broken"] += 1
                if streams is not None:
                    streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def _one(self, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection may be used again."""
        target, user = rng.choice(TARGETS), rng.choice(USERS)
        session = target.split("/")[1]
        fields, query = credentials(session, user)
        method = "HEAD" if rng.random() < 0.1 else "GET"
        if rng.random() < 0.1:
            fields = {
                **fields,
                **rng.choice(({"If-None-Match": '"same"'}, {"Range": "bytes=0-8"}, {"Cache-Control": "no-cache"})),
            }
        lines = [
            f"{method} {target}{query} HTTP/1.1",
            "Host: site.test",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        came = await read_answer(reader, method)
        self.seen["requests"] += 1
        self.seen[str(came.status)] += 1
        if came.is_from_cache:
            self.seen[f"cache {session}"] += 1
        elif "x-for" in came.fields:
            self.seen["app"] += 1
        if came.status == 206:
            came = Came(206, came.fields, b"")  # the name is in the fields
        if leak := leak_of(session, user, target + query, came):
            self.leaks.append(leak)
        return came.fields.get("connection", "") != "close"


async def read_answer(reader: asyncio.StreamReader, method: str) -> Came:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    status = int(first.split(" ")[1])
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if method == "HEAD" or status == 304:
        return Came(status, fields, b"")
    if fields.get("transfer-encoding") == "chunked":
        return Came(status, fields, b"".join([chunk async for chunk in _chunks(reader)]))
    return Came(status, fields, await reader.readexactly(int(fields.get("content-length", "0"))))


async def _chunks(reader: asyncio.StreamReader):  # type: ignore[no-untyped-def]
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")


def moods(seed: int) -> Iterator[tuple[str, float]]:
    """How the app is, and for how many seconds: it always comes back."""
    rng = random.Random(seed)
    for bad in itertools.cycle(("flaky", "dead", "refusing", "flaky")):
        yield "well", rng.uniform(0.5, 1.5)
        yield bad, rng.uniform(0.2, 0.8)
