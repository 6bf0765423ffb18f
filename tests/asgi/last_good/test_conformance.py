"""RFC 9111, RFC 5861, RFC 9211, RFC 9213 and RFC 9110, rule by rule: the cases in ``cases`` against the whole cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from hotpath.asgi import LastGood
from tests.asgi.last_good.case import Ask, Page, Wait
from tests.asgi.last_good.cases import freshness, storing, validation
from tests.asgi.last_good.site import Answer, App, Clock, cache
from tests.asgi.last_good.site import ask as send

CASES = [*storing.CASES, *freshness.CASES, *validation.CASES]


def page_of(step: Any, clock: Clock, host: str) -> Any:
    """What the app answers from now on; a function of the request's fields may say that."""

    def here(value: str) -> str:
        return value.replace("example.org", host).replace("EXAMPLE.org", host.upper())

    def answer(scope: Any) -> Any:
        if isinstance(step, Page):
            status, fields, body = step.status, step.fields, step.body
        else:
            got = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
            status, fields, body = step(got)
        fields = {"date": formatdate(clock(), usegmt=True), **fields}
        lines = [
            (name, here(value))
            for name, values in fields.items()
            for value in (values if isinstance(values, list) else [values])
            if value is not None
        ]
        return status, lines, body if isinstance(body, list) else body.encode()

    return answer


def check(step: Ask, answer: Answer, asked: list[dict[str, str]]) -> None:
    """Raise ``AssertionError`` unless the answer is as the step says; ``asked`` is what the app got for it."""
    assert answer.status == step.status
    assert answer.is_hit == (step.source in ("cache", "revalidated")), answer
    if step.source in ("app", "validated"):
        assert asked
    elif step.source == "nobody":
        assert not asked
    if step.body is not None:
        assert answer.body == step.body.encode()
    if step.age is not None:
        assert answer.age == step.age
    for name, value in step.has.items():
        assert (", ".join(answer.values(name)) or None) == value, (name, answer.headers)
    for name, value in step.app_got.items():
        assert asked[-1].get(name) == value


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LastGood]]:
    """One cache for each set of options: making a file costs more than a case. Each case has a host of its own."""
    made: dict[str, LastGood] = {}

    def cache_with(**options: Any) -> LastGood:
        if str(options) not in made:
            made[str(options)] = cache(App(), tmp_path_factory.mktemp("cache"), **options)
        return made[str(options)]

    yield cache_with
    for last_good in made.values():
        last_good.close()


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{case.section}: {case.rule}" for case in CASES])
def test_the_rule_holds(number: int, caches: Callable[..., LastGood]) -> None:
    case, host = CASES[number], f"case-{number}.example"

    async def main() -> None:
        clock, app = Clock(), App()
        last_good = caches(**case.options)
        last_good.app, last_good.clock = app, clock
        last_good.breaker.succeeded()
        for step in case.steps:
            if isinstance(step, Wait):
                clock.now += step.seconds
            elif isinstance(step, Ask):
                before = len(app.asked)
                answer = await send(last_good, step.path, [*step.headers.items()], step.method, host)
                if step.source == "revalidated":
                    while len(app.asked) == before:  # noqa: ASYNC110  nothing says when the background has run
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(0.01)
                check(step, answer, [headers for _, _, headers in app.asked[before:]])
            else:
                app.pages = dict.fromkeys(("/", "/other", "/make", "/robots.txt"), page_of(step, clock, host))

    asyncio.run(main())
