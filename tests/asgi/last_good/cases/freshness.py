"""RFC 9111 §4.2, §5.1–§5.3, RFC 5861, RFC 9213: how long an answer is fresh, and whether it is used when stale."""

# ruff: noqa: E501  # a table

from typing import Any

from tests.asgi.last_good.case import Case, ask, down, fresh, page, wait, when_down

# The clock of the tests begins at Sun, 17 Mar 2030 17:46:40 GMT.
NOW, IN_100, BEFORE, IN_A_YEAR = (
    "Sun, 17 Mar 2030 17:46:40 GMT",
    "Sun, 17 Mar 2030 17:48:20 GMT",
    "Sun, 17 Mar 2030 17:45:00 GMT",
    "Mon, 17 Mar 2031 17:46:40 GMT",
)
TEN_DAYS_AGO = "Thu, 07 Mar 2030 17:46:40 GMT"
P = page


def lasts(section: str, rule: str, seconds: int, **fields: Any) -> Case:
    """Fresh for exactly so many seconds; 0: never."""
    steps: list[Any] = [P(**fields), ask("app")]
    if seconds:
        steps += [wait(seconds - 1), ask("cache", age=seconds - 1), wait(1)]
    return fresh(section, rule, *steps, P("two", **fields), ask("app", body="two"))


def stands_in(section: str, rule: str, after: float, is_used: bool, **fields: Any) -> Case:
    """Used, or not, in place of a failing app after some seconds."""
    last = ask("cache", age=int(after)) if is_used else ask("app", status=503)
    return when_down(section, rule, P(**fields), ask("app"), wait(after), down(), last)


CASES = [
    # §4.2.1
    lasts("RFC 9111 §4.2.1", "s-maxage before max-age and Expires", 50, cache_control="max-age=9, s-maxage=50",
          expires=BEFORE),
    lasts("RFC 9111 §4.2.1", "max-age before Expires", 50, cache_control="max-age=50", expires=BEFORE),
    lasts("RFC 9111 §4.2.1", "Expires minus Date", 100, expires=IN_100),
    lasts("RFC 9111 §4.2.1", "Expires without Date counts from when it came", 100, expires=IN_100, date=None),
    lasts("RFC 9111 §4.2.1", "two max-age that differ: stale", 0, cache_control="max-age=50, max-age=60"),
    lasts("RFC 9111 §4.2.1", "max-age that is no number: stale", 0, cache_control="max-age=abc"),
    lasts("RFC 9111 §4.2.1", "negative max-age: stale", 0, cache_control="max-age=-5"),
    lasts("RFC 9111 §4.2.1", "max-age in quotes", 50, cache_control='max-age="50"'),
    lasts("RFC 9111 §4.2.1", "two Expires that differ: stale", 0, expires=[IN_100, IN_A_YEAR]),
    lasts("RFC 9111 §5.3", "Expires that is no date: stale", 0, expires="0"),
    lasts("RFC 9111 §5.3", "Expires in the past: stale", 0, expires=BEFORE),
    lasts("RFC 9111 §5.3", "Expires in the form of RFC 850", 100, expires="Sunday, 17-Mar-30 17:48:20 GMT"),
    lasts("RFC 9111 §5.3", "Expires in the form of asctime", 100, expires="Sun Mar 17 17:48:20 2030"),
    lasts("RFC 9111 §5.3", "Expires in another zone is no date", 0, expires="Sun, 17 Mar 2030 17:48:20 CET"),
    # §4.2.2
    lasts("RFC 9111 §4.2.2", "a tenth of the time since Last-Modified, a day at most", 86400, last_modified=TEN_DAYS_AGO),
    lasts("RFC 9111 §4.2.2", "a tenth of 100 seconds", 10, last_modified=BEFORE),
    lasts("RFC 9111 §4.2.2", "not where there is an explicit time", 20, last_modified=TEN_DAYS_AGO,
          cache_control="max-age=20"),
    lasts("RFC 9111 §4.2.2", "not without Last-Modified", 0),
    lasts("RFC 9111 §4.2.2", "not with a Last-Modified in the future", 0, last_modified=IN_A_YEAR),
    lasts("RFC 9111 §4.2.2", "not with nonsense in Cache-Control", 0, last_modified=TEN_DAYS_AGO,
          cache_control="public; max-age=600"),
    fresh("RFC 9111 §4.2.2", "404 too", P("no", 404, last_modified=BEFORE), ask("app", status=404), wait(9),
          ask("cache", status=404)),
    # §4.2.3 and §5.1
    fresh("RFC 9111 §4.2.3", "Age of the answer counts", P(cache_control="max-age=100", age="60"), ask("app"), wait(30),
          ask("cache", age=90), wait(10), ask("app")),
    fresh("RFC 9111 §4.2.3", "an old Date counts", P(cache_control="max-age=150", date=BEFORE), ask("app"), wait(49),
          ask("cache", age=149), wait(1), ask("app")),
    fresh("RFC 9111 §4.2.3", "the larger of both", P(cache_control="max-age=500", date=BEFORE, age="300"), ask("app"),
          ask("cache", age=300)),
    fresh("RFC 9111 §4.2.3", "a Date in the future makes nothing younger",
          P(cache_control="max-age=100", date=IN_A_YEAR), ask("app"), wait(60), ask("cache", age=60), wait(40), ask("app")),
    fresh("RFC 9111 §4.2.3", "a Date that is none counts as none", P(cache_control="max-age=100", date="yesterday"),
          ask("app"), wait(60), ask("cache", age=60)),
    fresh("RFC 9111 §5.1", "of several members of Age the first", P(cache_control="max-age=100", age="20, 70"),
          ask("app"), ask("cache", age=20)),
    fresh("RFC 9111 §5.1", "of several field lines the first", P(cache_control="max-age=100", age=["20", "70"]),
          ask("app"), ask("cache", age=20)),
    *(
        fresh("RFC 9111 §5.1", f"Age {value!r} is ignored", P(cache_control="max-age=100", age=value), ask("app"),
              ask("cache", age=0))
        for value in ("-5", "abc", "1.5", "", '"9"')
    ),
    lasts("RFC 9111 §1.2.2", "an Age without end is very old", 0, cache_control="max-age=100", age="9" * 40),
    fresh("RFC 9111 §5.1", "Age MUST be in each answer from the cache", P(cache_control="max-age=100"), ask("app"),
          ask("cache", age=0)),
    fresh("RFC 9111 §4.2.3", "a clock that goes back makes nothing younger than it came",
          P(cache_control="max-age=100", age="10"), ask("app"), wait(50), ask("cache", age=60), wait(-3600),
          ask("cache", age=10)),
    # §4.2.4
    stands_in("RFC 9111 §4.2.4", "a stale answer is used where nothing forbids", 3600, True, cache_control="max-age=1"),
    *(
        stands_in("RFC 9111 §4.2.4", f"{word} forbids stale use", 61, False, cache_control=f"max-age=60, {word}")
        for word in ("must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache", 'no-cache="x-a"')
    ),
    *(
        stands_in("RFC 9111 §4.2.4", f"{word} does not forbid fresh use", 59, True, cache_control=f"max-age=60, {word}")
        for word in ("must-revalidate", "proxy-revalidate", "s-maxage=60")
    ),
    stands_in("RFC 9111 §5.2.2.4", "no-cache forbids any use without validation", 0, False,
              cache_control="max-age=60, no-cache"),
    stands_in("RFC 9111 §4.2.4", "nonsense does not lift must-revalidate", 1, False,
              cache_control="must-revalidate; max-age=60"),
    fresh("RFC 9111 §4.2.4", "no stale answer while the app answers", P(cache_control="max-age=1"), ask("app"), wait(2),
          P("two"), ask("app", body="two")),
    # §5.2.2
    fresh("RFC 9111 §5.2.2.4", "no-cache: validated each time", P(cache_control="no-cache, max-age=60", etag='"1"'),
          ask("app"), P("", 304, etag='"1"'), ask("validated", body="one", app_got={"if-none-match": '"1"'})),
    fresh("RFC 9111 §5.2.2.2", "must-revalidate: an app that fails is an error, not the stale answer",
          P(cache_control="max-age=1, must-revalidate"), ask("app"), wait(2), down(504), ask("app", status=504)),
    lasts("RFC 9111 §5.2.2.10", "s-maxage=0", 0, cache_control="s-maxage=0, max-age=60"),
    # §5.2.1
    fresh("RFC 9111 §5.2.1.1", "max-age of a request", P(cache_control="max-age=100"), ask("app"), wait(20),
          ask("cache", headers={"cache_control": "max-age=20"}), ask("app", headers={"cache_control": "max-age=19"})),
    fresh("RFC 9111 §5.2.1.1", "nonsense: not used", P(cache_control="max-age=100"), ask("app"), wait(20),
          ask("app", headers={"cache_control": "max-age=x"})),
    fresh("RFC 9111 §5.2.1.3", "min-fresh", P(cache_control="max-age=100"), ask("app"), wait(20),
          ask("cache", headers={"cache_control": "min-fresh=80"}), ask("app", headers={"cache_control": "min-fresh=81"})),
    fresh("RFC 9111 §5.2.1.3", "min-fresh that is nonsense: not used", P(cache_control="max-age=100"), ask("app"),
          ask("app", headers={"cache_control": "min-fresh=x"})),
    fresh("RFC 9111 §5.2.1.4", "no-cache of a request", P(cache_control="max-age=100"), ask("app"),
          ask("app", headers={"cache_control": "no-cache"})),
    fresh("RFC 9111 §5.4", "Pragma: no-cache", P(cache_control="max-age=100"), ask("app"),
          ask("app", headers={"pragma": "no-cache"})),
    fresh("RFC 9111 §5.4", "not beside Cache-Control", P(cache_control="max-age=100"), ask("app"),
          ask("cache", headers={"pragma": "no-cache", "cache_control": "max-age=50"})),
    fresh("RFC 9111 §5.2.1.7", "only-if-cached with a stored answer", P(cache_control="max-age=100"), ask("app"),
          ask("cache", headers={"cache_control": "only-if-cached"})),
    fresh("RFC 9111 §5.2.1.7", "only-if-cached without one: 504, and the app is not asked", P(),
          ask("nobody", headers={"cache_control": "only-if-cached"}, status=504)),
    when_down("RFC 9111 §5.2.1.4", "no-cache is a wish, which a failing app cannot fulfil", P(), ask("app"), down(),
              ask("cache", headers={"cache_control": "no-cache"})),
    # RFC 5861
    stands_in("RFC 5861 §4", "within stale-if-error", 160, True, cache_control="max-age=60, stale-if-error=100"),
    stands_in("RFC 5861 §4", "after stale-if-error", 161, False, cache_control="max-age=60, stale-if-error=100"),
    stands_in("RFC 5861 §4", "stale-if-error=0", 61, False, cache_control="max-age=60, stale-if-error=0"),
    stands_in("RFC 5861 §4", "nonsense is no time", 61, False, cache_control="max-age=60, stale-if-error=x"),
    stands_in("RFC 5861 §4", "it does not lift must-revalidate", 61, False,
              cache_control="max-age=60, must-revalidate, stale-if-error=100"),
    stands_in("contract 16", "without it, --stale", 7 * 86400, True),
    stands_in("contract 16", "after --stale", 7 * 86400 + 1, False),
    *(
        when_down("RFC 5861 §4", f"{status} is an error", P(), ask("app"), down(status), ask("cache"))
        for status in (500, 502, 503, 504)
    ),
    *(
        when_down("RFC 5861 §4", f"{status} is none", P(), ask("app"), down(status), ask("app", status=status))
        for status in (400, 403, 404, 429, 501, 505)
    ),
    fresh("RFC 5861 §3", "stale-while-revalidate: used, and validated behind the client's back",
          P(cache_control="max-age=10, stale-while-revalidate=30"), ask("app"), wait(39),
          P("two", cache_control="max-age=10"), ask("revalidated", body="one", age=39), ask("cache", body="two")),
    fresh("RFC 5861 §3", "not after its time", P(cache_control="max-age=10, stale-while-revalidate=30"), ask("app"),
          wait(40), P("two"), ask("app", body="two")),
    fresh("RFC 5861 §3", "not where stale use is forbidden",
          P(cache_control="max-age=10, stale-while-revalidate=30, must-revalidate"), ask("app"), wait(11), P("two"),
          ask("app", body="two")),
    # RFC 9213
    lasts("RFC 9213 §2.2", "the targeted field alone", 50, cdn_cache_control="max-age=50",
          cache_control="max-age=9, s-maxage=9", expires=BEFORE),
    lasts("RFC 9213 §2.2", "it can forbid what Cache-Control allows", 0, cdn_cache_control="no-store",
          cache_control="max-age=50"),
    lasts("RFC 9213 §2.1", "malformed, it does not count", 50, cdn_cache_control="max-age=9;", cache_control="max-age=50"),
    lasts("RFC 9213 §2.1", "empty, it does not count", 50, cdn_cache_control="", cache_control="max-age=50"),
    lasts("RFC 9213 §2.1", "a String is no time", 0, cdn_cache_control='max-age="50"'),
    lasts("RFC 9213 §2.1", "parameters are ignored", 50, cdn_cache_control="max-age=50;x=9"),
    lasts("RFC 9213 §2.2", "Cache-Control: no-store does not count beside a time", 50, cdn_cache_control="max-age=50",
          cache_control="no-store"),
    fresh("RFC 9213 §3.1", "the field is passed on", P(cdn_cache_control="max-age=50"), ask("app"),
          ask("cache", has={"cdn-cache-control": "max-age=50"})),
    # Contract 20
    when_down("contract 20", "robots.txt for ever", P(), ask("app", path="/robots.txt"), wait(10 * 365 * 86400), down(),
              ask("cache", path="/robots.txt")),
    when_down("contract 20", "whatever its stale-if-error", P(cache_control="stale-if-error=0"),
              ask("app", path="/robots.txt"), wait(86400), down(), ask("cache", path="/robots.txt")),
    when_down("contract 20", "not where it says no-store", P(cache_control="no-store"), ask("app", path="/robots.txt"),
              down(), ask("app", path="/robots.txt", status=503)),
]  # fmt: skip
