"""What the audit recognises in code, each pattern beside what looks much like it and is bounded."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence

import pytest

from hotpath.audit.analysis import analyze
from hotpath.audit.findings import CACHES, Finding, Pattern, Severity
from hotpath.audit.source import File, read_source

# (what it is, the code, what is found: one pattern for each finding)
FOUND: list[tuple[str, str, Sequence[Pattern]]] = [
    (
        "functools.cache on what a visitor says",
        """
        from functools import cache

        @cache
        def slug(title): ...
        """,
        [Pattern.UNBOUNDED_CACHE],
    ),
    (
        "functools.cache under another name",
        """
        import functools as tools

        @tools.cache
        def slug(title): ...
        """,
        [Pattern.UNBOUNDED_CACHE],
    ),
    (
        "lru_cache(maxsize=None)",
        """
        from functools import lru_cache as remember

        @remember(maxsize=None)
        def slug(title): ...
        """,
        [Pattern.UNBOUNDED_CACHE],
    ),
    (
        "lru_cache(None)",
        """
        import functools

        @functools.lru_cache(None)
        def slug(title): ...
        """,
        [Pattern.UNBOUNDED_CACHE],
    ),
    (
        "a cache as a function around a function",
        """
        from functools import lru_cache

        def slug(title): ...

        fast_slug = lru_cache(maxsize=None)(slug)
        """,
        [Pattern.UNBOUNDED_CACHE],
    ),
    (
        "functools.cache on a method: it holds every instance",
        """
        from functools import cache

        class Page:
            @cache
            def title(self): ...
        """,
        [Pattern.UNBOUNDED_CACHE],
    ),
    (
        "alru_cache(None)",
        """
        from async_lru import alru_cache

        @alru_cache(None)
        async def quote(ticker): ...
        """,
        [Pattern.UNBOUNDED_ALRU_CACHE],
    ),
    (
        "alru_cache(maxsize=None, ttl=60): a time is no bound",
        """
        from async_lru import alru_cache

        @alru_cache(maxsize=None, ttl=60)
        async def quote(ticker): ...
        """,
        [Pattern.UNBOUNDED_ALRU_CACHE],
    ),
    (
        "cachetools with math.inf",
        """
        import math
        from cachetools import TTLCache

        CACHE = TTLCache(maxsize=math.inf, ttl=300)
        """,
        [Pattern.UNBOUNDED_CACHETOOLS],
    ),
    (
        "cachetools with float('inf')",
        """
        import cachetools

        CACHE = cachetools.LRUCache(float("inf"))
        """,
        [Pattern.UNBOUNDED_CACHETOOLS],
    ),
    (
        "cachetools with sys.maxsize",
        """
        import sys
        import cachetools

        CACHE = cachetools.Cache(sys.maxsize)
        """,
        [Pattern.UNBOUNDED_CACHETOOLS],
    ),
    (
        "cachetools.cached over a dict",
        """
        from cachetools import cached

        @cached({})
        def quote(ticker): ...
        """,
        [Pattern.UNBOUNDED_CACHETOOLS],
    ),
    (
        "cachetools.func.ttl_cache(maxsize=None)",
        """
        from cachetools.func import ttl_cache

        @ttl_cache(maxsize=None)
        def quote(ticker): ...
        """,
        [Pattern.UNBOUNDED_CACHETOOLS],
    ),
    (
        "a dict of the module that functions write to",
        """
        _PRICES = {}

        def price(ticker):
            if ticker not in _PRICES:
                _PRICES[ticker] = fetch(ticker)
            return _PRICES[ticker]
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "an annotated dict, setdefault",
        """
        _PRICES: dict[str, list[float]] = {}

        def price(ticker, paid):
            _PRICES.setdefault(ticker, []).append(float(paid))
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a defaultdict",
        """
        from collections import defaultdict

        SEEN = defaultdict(int)

        def count(address):
            SEEN[address] += 1
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a Counter, update",
        """
        from collections import Counter

        SEEN = Counter()

        def count(address):
            SEEN.update([address])
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a set",
        """
        SEEN = set()

        def is_new(address):
            if address in SEEN:
                return False
            SEEN.add(address)
            return True
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a list",
        """
        LATENCIES = []

        def record(milliseconds):
            LATENCIES.append(round(milliseconds))
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a list, +=",
        """
        LATENCIES = []

        def record(milliseconds):
            global LATENCIES
            LATENCIES += [round(milliseconds)]
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a deque without maxlen",
        """
        from collections import deque

        LATENCIES = deque()

        def record(milliseconds):
            LATENCIES.append(round(milliseconds))
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a heap",
        """
        import heapq

        WAITING = []

        def later(when, what):
            heapq.heappush(WAITING, (when, what))
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "through an alias in the function",
        """
        _PRICES = {}

        def price(ticker):
            prices = _PRICES
            prices[ticker] = fetch(ticker)
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "in an async function, inside with, for and try",
        """
        _PRICES = {}

        async def prices(tickers):
            async with lock:
                for ticker in tickers:
                    try:
                        _PRICES[ticker] = await fetch(ticker)
                    except OSError:
                        pass
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "keyed by something new each time",
        """
        import uuid

        JOBS = {}

        def start():
            JOBS[uuid.uuid4()] = make()
        """,
        [Pattern.GROWING_GLOBAL],
    ),
    (
        "a dict of the class, written through self",
        """
        class Client:
            _responses = {}

            def get(self, url):
                self._responses[url] = self.fetch(url)
        """,
        [Pattern.GROWING_CLASS_ATTRIBUTE],
    ),
    (
        "a dict of the class, written through cls and by its name",
        """
        class Client:
            _responses = {}
            _urls = []

            @classmethod
            def get(cls, url):
                cls._responses[url] = cls.fetch(url)
                Client._urls.append(str(url))
        """,
        [Pattern.GROWING_CLASS_ATTRIBUTE, Pattern.GROWING_CLASS_ATTRIBUTE],
    ),
    (
        "a dict of a base class",
        """
        class Base:
            _responses = {}

        class Client(Base):
            def get(self, url):
                self._responses[url] = self.fetch(url)
        """,
        [Pattern.GROWING_CLASS_ATTRIBUTE],
    ),
    (
        "values with times, and nobody looks at them",
        """
        import time

        _CACHE = {}

        def quote(ticker):
            _CACHE[ticker] = (time.time() + 300, fetch(ticker))
        """,
        [Pattern.TTL_WITHOUT_MAXIMUM],
    ),
    (
        "what is too old is taken out only when it is asked for again: the outage",
        """
        import time

        _CACHE = {}

        def quote(ticker):
            entry = _CACHE.get(ticker)
            if entry is not None and entry["expires_at"] < time.time():
                del _CACHE[ticker]
            _CACHE[ticker] = {"value": fetch(ticker), "expires_at": time.time() + 300}
            return _CACHE[ticker]["value"]
        """,
        [Pattern.TTL_WITHOUT_MAXIMUM],
    ),
    (
        "a registry that sessions enter and never leave",
        """
        SESSIONS = {}

        def opened(key, session):
            SESSIONS[key] = session
        """,
        [Pattern.GLOBAL_REGISTRY],
    ),
    (
        "objects that enter themselves",
        """
        class Connection:
            every = {}

            def __init__(self, address):
                Connection.every[address] = self
        """,
        [Pattern.GLOBAL_REGISTRY],
    ),
    (
        "a handler of FastAPI appends",
        """
        EVENTS = []

        @app.post("/events")
        async def event(body: dict):
            EVENTS.append(body)
        """,
        [Pattern.HANDLER_APPEND],
    ),
    (
        "a handler of Flask appends",
        """
        EVENTS = []

        @app.route("/events")
        def event():
            EVENTS.append(request.json)
        """,
        [Pattern.HANDLER_APPEND],
    ),
    (
        "a handler of Django or Starlette, known by its argument",
        """
        from django.http import HttpRequest

        SEEN = set()

        def page(request: HttpRequest):
            SEEN.add(request.META["REMOTE_ADDR"])
        """,
        [Pattern.HANDLER_APPEND],
    ),
    (
        "a handler that keeps an address for every path",
        """
        SEEN = {}

        @router.get("/{path:path}")
        async def page(path: str):
            SEEN[path] = 1
        """,
        [Pattern.HANDLER_APPEND],
    ),
    (
        "a memo in a closure",
        """
        def memoize(function):
            memo = {}

            def wrapper(*args):
                if args not in memo:
                    memo[args] = function(*args)
                return memo[args]

            return wrapper
        """,
        [Pattern.CLOSURE_MEMO],
    ),
    (
        "a memo in a closure two functions out",
        """
        def memoize(name):
            def decorator(function):
                memo = {}

                def wrapper(key):
                    memo.setdefault(key, function(key))
                    return memo[key]

                return wrapper

            return decorator
        """,
        [Pattern.CLOSURE_MEMO],
    ),
    (
        "a memo as a default",
        """
        def factorial(n, memo={}):
            if n not in memo:
                memo[n] = n * factorial(n - 1)
            return memo[n]
        """,
        [Pattern.MUTABLE_DEFAULT],
    ),
    (
        "a keyword-only list as a default",
        """
        def collect(item, *, into=[]):
            into.append(str(item))
            return list(into)
        """,
        [Pattern.MUTABLE_DEFAULT],
    ),
    (
        "several in one file, each for itself",
        """
        from functools import cache

        A, B = {}, {}
        C = {}

        @cache
        def one(x):
            C[x] = work(x)
        """,
        [Pattern.GROWING_GLOBAL, Pattern.UNBOUNDED_CACHE],
    ),
]

# (what it is, the code, whether it is a note with --all)
BOUNDED: list[tuple[str, str, bool]] = [
    ("lru_cache with its own default", "from functools import lru_cache\n@lru_cache\ndef slug(title): ...", False),
    ("lru_cache()", "from functools import lru_cache\n@lru_cache()\ndef slug(title): ...", False),
    ("lru_cache(maxsize=512)", "from functools import lru_cache\n@lru_cache(maxsize=512)\ndef slug(title): ...", False),
    ("alru_cache(512)", "from async_lru import alru_cache\n@alru_cache(512)\nasync def quote(ticker): ...", False),
    ("alru_cache with a ttl", "from async_lru import alru_cache\n@alru_cache(ttl=9)\nasync def quote(t): ...", False),
    ("cachetools, bounded", "from cachetools import TTLCache\nCACHE = TTLCache(maxsize=1024, ttl=60)", False),
    ("cachetools.cached, bounded", "from cachetools import *\n@cached(LRUCache(64))\ndef quote(ticker): ...", False),
    ("hotpath's own", "from hotpath import LRUCache\nC = LRUCache(64)\ndef f(key):\n    C[key] = work(key)", False),
    ("another cache", "from mine import cache\n@cache\ndef slug(title): ...", False),
    ("functools.cache on nothing that varies", "from functools import cache\n@cache\ndef settings(): ...", False),
    ("functools.cache on a class", "from functools import cache\n@cache\ndef fields(cls: type): ...", True),
    (
        "functools.cached_property",
        "from functools import cached_property as c\nclass A:\n    @c\n    def b(self): ...",
        False,
    ),
    (
        "functools.cache on a classmethod without more",
        "from functools import cache\nclass A:\n    @classmethod\n    @cache\n    def b(cls): ...",
        False,
    ),
    (
        "a cache that somebody clears",
        """
        from functools import cache

        @cache
        def slug(title): ...

        def every_hour():
            slug.cache_clear()
        """,
        True,
    ),
    (
        "a cache that ends with the call",
        """
        from functools import cache

        def paths(graph):
            @cache
            def count(node):
                return sum(map(count, graph[node]))

            return count(0)
        """,
        False,
    ),
    (
        "entries are taken out somewhere",
        """
        JOBS = {}

        def start(job):
            JOBS[job.id] = work(job)

        def done(job):
            JOBS.pop(job.id, None)
        """,
        False,
    ),
    (
        "del",
        """
        JOBS = {}

        def start(job):
            JOBS[job.id] = work(job)

        def done(job):
            del JOBS[job.id]
        """,
        False,
    ),
    (
        "a callback takes them out",
        """
        TASKS = set()

        def spawn(task):
            TASKS.add(task)
            task.add_done_callback(TASKS.discard)
        """,
        False,
    ),
    (
        "its size is looked at",
        """
        _PRICES = {}

        def price(ticker):
            if len(_PRICES) > 1000:
                forget()
            _PRICES[ticker] = fetch(ticker)
        """,
        False,
    ),
    (
        "a new one takes its place",
        """
        _PRICES = {}

        def price(ticker):
            _PRICES[ticker] = fetch(ticker)

        def every_hour():
            global _PRICES
            _PRICES = {}
        """,
        False,
    ),
    (
        "a slice",
        """
        LATENCIES = []

        def record(milliseconds):
            LATENCIES.append(round(milliseconds))
            LATENCIES[:] = LATENCIES[-100:]
        """,
        False,
    ),
    (
        "what is old goes, whoever asked: a sweep over all of it",
        """
        import time

        _CACHE = {}

        def quote(ticker):
            now = time.time()
            for key in list(_CACHE):
                if _CACHE[key][0] < now:
                    del _CACHE[key]
            _CACHE[ticker] = (now + 300, fetch(ticker))
        """,
        False,
    ),
    (
        "a deque with maxlen",
        """
        from collections import deque

        LATENCIES = deque(maxlen=100)

        def record(milliseconds):
            LATENCIES.append(round(milliseconds))
        """,
        False,
    ),
    (
        "weak references",
        """
        from weakref import WeakValueDictionary

        SESSIONS = WeakValueDictionary()

        def opened(key, session):
            SESSIONS[key] = session
        """,
        False,
    ),
    (
        "fixed keys",
        """
        STATE = {}

        def start(port):
            STATE["port"] = port
            STATE["started"] = True
        """,
        False,
    ),
    (
        "the key is one of a table",
        """
        _RATES = {}

        def rate(currency):
            if currency not in CURRENCIES:
                raise ValueError(currency)
            _RATES[currency] = fetch(currency)
        """,
        True,
    ),
    (
        "a key of an enumeration",
        """
        from enum import Enum

        class Market(Enum):
            US = 1

        _RATES = {}

        def rate(market: Market):
            _RATES[market] = fetch(market)
        """,
        True,
    ),
    (
        "keys are classes",
        """
        _FIELDS = {}

        def fields(cls):
            _FIELDS[cls] = work(cls)
        """,
        True,
    ),
    (
        "filled while the module is imported",
        """
        TABLE = {}
        for number in range(256):
            TABLE[number] = chr(number)
        """,
        False,
    ),
    (
        "filled once",
        """
        TABLE = {}

        def table(rows):
            if not TABLE:
                for row in rows:
                    TABLE[row.key] = row.value
            return TABLE
        """,
        True,
    ),
    (
        "a decorator that registers",
        """
        HANDLERS = {}

        def handler(name):
            def enter(function):
                HANDLERS[name] = function
                return function

            return enter
        """,
        True,
    ),
    (
        "a function whose name says that it is for the start",
        """
        HANDLERS = {}

        def register_handler(name, handler):
            HANDLERS[name] = handler
        """,
        True,
    ),
    (
        "one entry for each class that is written",
        """
        class Base:
            kinds = {}

            def __init_subclass__(cls, name, **rest):
                cls.kinds[name] = cls
        """,
        True,
    ),
    (
        "each instance has its own",
        """
        class Client:
            responses = {}

            def __init__(self):
                self.responses = {}

            def get(self, url):
                self.responses[url] = self.fetch(url)
        """,
        False,
    ),
    (
        "fields of a model",
        """
        class Order(BaseModel):
            lines = []

            def add(self, line):
                self.lines.append(str(line))
        """,
        False,
    ),
    (
        "a local name of the same letters",
        """
        prices = {}

        def total(items):
            prices = {}
            for item in items:
                prices[item] = fetch(item)
            return sum(prices.values())
        """,
        False,
    ),
    (
        "a closure that nobody gives back",
        """
        def total(items):
            memo = {}

            def price(item):
                memo[item] = fetch(item)
                return memo[item]

            return sum(price(item) for item in items)
        """,
        False,
    ),
    (
        "a handler whose list ends with the request",
        """
        @app.post("/events")
        async def event(body: dict):
            found = []
            found.append(body)
            return found
        """,
        False,
    ),
    (
        "a default that is only read",
        """
        def page(query, defaults={}):
            return {**defaults, **query}
        """,
        False,
    ),
    (
        "a default that is copied first",
        """
        def page(query, options={}):
            options = dict(options)
            options[query] = 1
        """,
        False,
    ),
    (
        "an index of a list is no entry",
        """
        COUNTS = [0] * 60
        SLOTS = [None]

        def count(second, value):
            SLOTS[second] = value
        """,
        False,
    ),
    (
        "for type checkers only",
        """
        from typing import TYPE_CHECKING

        SEEN = {}

        if TYPE_CHECKING:
            def f(key):
                SEEN[key] = 1
        """,
        False,
    ),
    (
        "a class that a function makes anew, and keeps to itself",
        """
        def collect(frames):
            class Collector:
                data = []

                def write(self, part):
                    self.data.append(str(part))

            save(frames, Collector())
        """,
        False,
    ),
    (
        "a default of a function that ends with the call",
        """
        def implied(features):
            def walk(feature, seen=set()):
                seen.add(feature)
                return [walk(one) for one in features[feature]]

            return walk(features.first)
        """,
        False,
    ),
    (
        "keys are what instances were made with",
        """
        class Target:
            engines_by = {}

            def engine(self):
                self.engines_by[self.connection] = work()
        """,
        True,
    ),
    (
        "what was said once",
        """
        _warned = set()

        def tell(text):
            if text not in _warned:
                _warned.add(text)
        """,
        True,
    ),
    (
        "pieces of the code, by the name",
        """
        _engines = {}

        def connect(url):
            _engines[url] = work(url)
        """,
        True,
    ),
    (
        "tables that are filled together",
        """
        STARTS = []
        STOPS = []

        def ranges(rows):
            if not STARTS:
                for row in rows:
                    STARTS.append(row.start)
                    STOPS.append(row.stop)
        """,
        True,
    ),
    (
        "a decorator that enters what it is given under a key of its own",
        """
        SPECIAL = {}

        def specialize(typ, key):
            def wrapper(function):
                SPECIAL.setdefault((key, typ), [])
                SPECIAL[key, typ].append(function)
                return function

            return wrapper
        """,
        True,
    ),
    (
        "an inner list that is filled for a new key only",
        """
        SERVICES = {}

        def services(region):
            if region in SERVICES:
                return SERVICES[region]
            SERVICES.setdefault(region, []).extend(work(region))
        """,
        True,
    ),
    (
        "id() of a class",
        """
        WRAPPED = {}

        def wrapped(klass):
            class_id = id(klass)
            WRAPPED[class_id] = work(klass)
        """,
        True,
    ),
    ("a cache around what is in another file", "from functools import cache\nuser = cache(getuser)", True),
    (
        "a cache whose only argument of many values is given constants",
        """
        from functools import cache

        @cache
        def quaternion(key, device): ...

        def turn(tensor):
            return quaternion("turn", tensor.device)
        """,
        True,
    ),
]


def read(code: str, path: str = "app.py") -> File:
    module = path.rpartition("/")[2].removesuffix(".py")
    file = read_source(path, module, textwrap.dedent(code).encode())
    assert isinstance(file, File), file
    return file


def findings(files: list[File]) -> list[Finding]:
    return [candidate.finding for candidate in analyze(files)]


def audit(code: str) -> list[Finding]:
    return findings([read(code)])


def ids(cases: Sequence[tuple[str, str, object]]) -> list[str]:
    return [case[0] for case in cases]


@pytest.mark.parametrize(("_", "code", "patterns"), FOUND, ids=ids(FOUND))
def test_what_grows_is_found(_: str, code: str, patterns: Sequence[Pattern]) -> None:
    found = audit(code)
    assert sorted(one.pattern for one in found) == sorted(patterns)
    assert {one.level for one in found} == {Severity.WARNING}


@pytest.mark.parametrize(("_", "code", "is_note"), BOUNDED, ids=ids(BOUNDED))
def test_what_is_bounded_is_none(_: str, code: str, is_note: bool) -> None:
    assert {one.level for one in audit(code)} == ({Severity.NOTE} if is_note else set())


def test_every_pattern_has_a_case_and_a_summary() -> None:
    tested = {pattern for _, _, patterns in FOUND for pattern in patterns}
    assert tested == set(Pattern) - {Pattern.NO_REASON}  # see test_comments.py
    assert all(pattern.summary for pattern in Pattern)


@pytest.mark.parametrize(("_", "code", "patterns"), FOUND, ids=ids(FOUND))
def test_the_finding_shows_its_line_and_python_to_paste(_: str, code: str, patterns: Sequence[Pattern]) -> None:
    lines = textwrap.dedent(code).splitlines()
    for one in audit(code):
        assert lines[one.line - 1].strip() == one.text
        assert one.name in one.text or one.pattern in CACHES
        assert one.grows_at is None or lines[int(one.grows_at.removeprefix("line ")) - 1]
        if one.instead.startswith("@"):
            ast.parse(f"{one.instead}\ndef f(): ...")
        elif one.pattern is Pattern.MUTABLE_DEFAULT:
            assert one.instead.startswith(f"{one.name}=None  #")
        else:
            ast.parse(one.instead)


@pytest.mark.parametrize(
    ("made", "grows", "instead"),
    [
        ("{}", "X[key] = work(key)", "X = LRUCache(max_entries=1024)  # from hotpath import LRUCache"),
        ("{}", "X[key] = (now(), key)", "X = TTLCache(max_entries=1024, ttl=300)  # from hotpath import TTLCache"),
        ("[]", "X.append(work(key))", "X = deque(maxlen=1000)  # from collections import deque"),
        ("set()", "X.add(work(key))", "X = LRUCache(max_entries=1024)"),
    ],
)
def test_the_replacement_has_a_maximum_and_its_import(made: str, grows: str, instead: str) -> None:
    (one,) = audit(f"X = {made}\ndef f(key):\n    {grows}\n")
    assert one.instead.startswith(instead)


def test_an_object_that_enters_itself_is_held_weakly_instead() -> None:
    (one,) = audit(
        "class A:\n    all = set()\n    def __init__(self, key):\n        self.key = key\n        A.all.add(self)\n"
    )
    assert one.instead == "all = WeakSet()  # from weakref import WeakSet; an object nobody else holds leaves by itself"


def test_a_cached_method_is_given_the_decorator_that_keeps_no_instance() -> None:
    (one,) = audit("from functools import cache\nclass A:\n    @cache\n    def f(self, key): ...\n")
    assert "no instance is ever freed" in one.why
    assert one.instead.startswith("@cached(max_entries=1024)  # from hotpath import cached")


KEYS = [
    ("an argument", "def f(key):\n    X[key] = 1", True),
    ("a part of one", "def f(request):\n    X[request.path] = 1", True),
    ("made of one", "def f(a, b):\n    X[(a.lower(), len(b))] = 1", True),
    ("an f-string", "def f(user):\n    X[f'user:{user}'] = 1", True),
    ("through a local name", "def f(request):\n    path = request.path\n    X[path] = 1", True),
    ("of a loop over an argument", "def f(rows):\n    for row in rows:\n        X[row] = 1", True),
    ("of *args", "def f(*args, **options):\n    X[args] = 1", True),
    ("a random one", "def f():\n    X[secrets.token_hex(8)] = 1", True),
    ("a time", "def f():\n    X[time.time()] = 1", True),
    ("id() of an argument", "def f(thing):\n    X[id(thing)] = 1", True),
    ("an exception", "def f():\n    try:\n        g()\n    except Exception as e:\n        X[str(e)] = 1", True),
    ("a constant", "def f():\n    X['key'] = 1", False),
    ("a comparison", "def f(n):\n    X[n > 3] = 1", False),
    ("a name of the module", "def f():\n    X[KEY] = 1", False),
    ("a class", "def f(cls):\n    X[cls] = 1", False),
    ("a class, by annotation", "def f(what: type[Model]):\n    X[what] = 1", False),
    ("the name of a class", "def f(thing):\n    X[type(thing)] = 1", False),
    ("__qualname__", "def f(thing):\n    X[thing.__qualname__] = 1", False),
    ("a name of a person", "def f(user_name):\n    X[user_name] = 1", True),
    ("a name", "def f(name):\n    X[name] = 1", False),
    ("a locale", "def f(locale):\n    X[locale] = 1", False),
    ("a flag", "def f(flag: bool):\n    X[flag] = 1", False),
    ("one of a few words", "def f(kind: Literal['a', 'b']):\n    X[kind] = 1", False),
    ("the current language", "def f():\n    X[get_language()] = 1", False),
]


@pytest.mark.parametrize(("_", "code", "is_endless"), KEYS, ids=ids(KEYS))
def test_keys_out_of_arguments_are_told_from_keys_out_of_the_code(_: str, code: str, is_endless: bool) -> None:
    warnings = [one for one in audit(f"X = {{}}\n{code}\n") if one.level is Severity.WARNING]
    assert [one.name for one in warnings] == ["X"] * is_endless


def test_a_container_of_another_file_is_followed() -> None:
    state = read("SEEN = {}\nDONE = {}\n", "state.py")
    grows = read("from state import DONE, SEEN\ndef f(key):\n    SEEN[key] = DONE[key] = work(key)\n", "grows.py")
    shrinks = read("import state\ndef g(key):\n    state.DONE.pop(key)\n", "shrinks.py")
    (one,) = findings([state, grows, shrinks])
    assert (one.path, one.line, one.name, one.grows_at) == ("state.py", 1, "SEEN", "grows.py:3")
    assert [one.name for one in findings([state, grows])] == ["SEEN", "DONE"]


def test_two_modules_of_one_name_are_not_mixed_up() -> None:
    files = [read("SEEN = {}\n", path) for path in ("a/state.py", "b/state.py")]
    grows = read("from state import SEEN\ndef f(key):\n    SEEN[key] = work(key)\n", "grows.py")
    assert findings([*files, grows]) == []


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ("def setup():\n    enter('a', work())\n", "is called only while the program starts"),
        ("def anything():\n    enter('a', 'b')\n", "is called with constants only"),
        ("def anything(key):\n    enter(key, work())\n", None),
        ("def setup_session(key):\n    enter(key, work())\n", None),
    ],
)
def test_who_calls_decides(calls: str, said: str | None) -> None:
    table = read("X = {}\ndef enter(key, value):\n    X[key] = str(value)\n", "table.py")
    (one,) = findings([table, read(f"from table import enter\n{calls}", "calls.py")])
    assert one.level is (Severity.WARNING if said is None else Severity.NOTE)
    assert said is None or said in one.why


@pytest.mark.parametrize("path", ["setup.py", "shop/management/commands/load.py", "migrations/0001.py", "scripts/a.py"])
def test_a_file_that_runs_once_and_ends_is_a_note(path: str) -> None:
    code = "X = {}\ndef f(key):\n    X[key] = work(key)\n"
    assert [one.level for one in findings([read(code, path)])] == [Severity.NOTE]
    assert [one.level for one in findings([read(code, "shop/views.py")])] == [Severity.WARNING]


# What was missed: each beside what looks like it and is bounded

HEAD = """
from collections import defaultdict
from functools import cache, lru_cache
import functools
app = FastAPI()
def handler(f): ...
"""

MISSED: list[tuple[str, str, list[str]]] = [
    ("X = X + [x]", "X = []\ndef f(x):\n    global X\n    X = X + [x]", ["X"]),
    ("X = [x] + X", "X = []\ndef f(x):\n    global X\n    X = [x] + X", ["X"]),
    ("X = [*X, x]", "X = []\ndef f(x):\n    global X\n    X = [*X, x]", ["X"]),
    ("X = {**X, k: v}", "X = {}\ndef f(k, v):\n    global X\n    X = {**X, k: make(v)}", ["X"]),
    ("X = X | {k: v}", "X = {}\ndef f(k, v):\n    global X\n    X = X | {k: v}", ["X"]),
    ("X = {*X, x}", "X = set()\ndef f(x):\n    global X\n    X = {*X, x}", ["X"]),
    (
        "cls.x = cls.x + [x]",
        "class A:\n    x = []\n    @classmethod\n    def f(cls, y):\n        cls.x = cls.x + [y]",
        ["x"],
    ),
    ("self.x", "class A:\n    x = []\n    def f(self, y):\n        self.x = self.x + [y]", []),
    ("only the last are kept", "X = []\ndef f(x):\n    global X\n    X = (X + [x])[-10:]", []),
    ("one takes out", "X = []\ndef f(x):\n    global X\n    X = X + [x]\ndef g():\n    X.clear()", []),
    ("begun anew", "X = []\ndef f(x):\n    global X\n    X = X + [x]\ndef g():\n    global X\n    X = []", []),
    ("another list", "X = []\nY = []\ndef f(x):\n    global X\n    X = Y + [x]", []),
    ("a cache with a name", "memo = lru_cache(maxsize=None)\n@memo\ndef f(title): ...", ["f"]),
    ("a cache under another name", "memo = functools.cache\n@memo\ndef f(title): ...", ["f"]),
    ("a cache with a name and a maximum", "memo = lru_cache(maxsize=10)\n@memo\ndef f(title): ...", []),
    ("one of two", "memo = lru_cache(None)\nmemo = lru_cache(10)\n@memo\ndef f(title): ...", []),
    ("read in a handler", "X = defaultdict(list)\n@app.get('/a')\ndef f(user):\n    return X[user]", ["X"]),
    ("read in part", "X = defaultdict(dict)\n@app.get('/a')\ndef f(user):\n    return X[user].get('a')", ["X"]),
    ("read by get", "X = defaultdict(list)\n@app.get('/a')\ndef f(user):\n    return X.get(user)", []),
    (
        "read after a look",
        "X = defaultdict(list)\n@app.get('/a')\ndef f(user):\n    if user in X:\n        return X[user]",
        [],
    ),
    (
        "read behind a look",
        (
            "X = defaultdict(list)\n"
            "@app.get('/a')\n"
            "def f(user):\n    if user not in X:\n        return 404\n    return X[user]"
        ),
        [],
    ),
    ("read in no handler", "X = defaultdict(list)\ndef f(user):\n    return X[user]", []),
    ("a dict that is read", "X = {}\n@app.get('/a')\ndef f(user):\n    return X[user]", []),
    ("by a constant", "X = defaultdict(list)\n@app.get('/a')\ndef f(user):\n    return X['all']", []),
    ("app.state", "app.state.x = {}\n@app.get('/a')\ndef f(k: str):\n    app.state.x[k] = 1", ["x"]),
    (
        "app.state, set at start and reached by the request",
        (
            "async def lifespan(app):\n    app.state.x = []\n"
            "@app.get('/a')\n"
            "def f(request, k):\n    request.app.state.x.append(k)"
        ),
        ["x"],
    ),
    (
        "app.state, one takes out",
        "app.state.x = {}\ndef f(k):\n    app.state.x[k] = 1\ndef g(k):\n    app.state.x.pop(k)",
        [],
    ),
    (
        "app.state, begun anew",
        "app.state.x = {}\ndef f(k):\n    app.state.x[k] = 1\ndef g():\n    app.state.x = {}",
        [],
    ),
    (
        "request.state",
        "def f(request, k):\n    request.state.x = {}\ndef g(request, k):\n    request.state.x[k] = 1",
        [],
    ),
    ("a state of its own", "class A:\n    def f(self, k):\n        self.state.x = {}\n        self.state.x[k] = 1", []),
    (
        "at start and later",
        "X = set()\ndef register(item):\n    X.add(item)\nregister('a')\ndef visit(user):\n    register(user)",
        ["X"],
    ),
    (
        "at start only",
        "X = set()\ndef register(item):\n    X.add(item)\nregister('a')\ndef setup(user):\n    register(user)",
        [],
    ),
    (
        "later with constants",
        "X = set()\ndef register(item):\n    X.add(item)\ndef visit(user):\n    register('a')",
        [],
    ),
]


@pytest.mark.parametrize(("_", "code", "names"), MISSED, ids=ids(MISSED))
def test_what_was_missed_is_found_and_what_looks_like_it_is_not(_: str, code: str, names: list[str]) -> None:
    warnings = [finding for finding in audit(f"{HEAD}{code}\n") if finding.level is Severity.WARNING]
    assert [finding.name for finding in warnings] == names


def test_the_state_of_an_application_is_followed_over_files() -> None:
    made = read("def create(app):\n    app.state.x = {}\n", "main.py")
    grows = read("def view(request, k):\n    request.app.state.x[k] = work(k)\n", "views.py")
    takes = read("def job(app, k):\n    app.state.x.pop(k)\n", "jobs.py")
    assert [(finding.path, finding.name) for finding in findings([made, grows])] == [("main.py", "x")]
    assert findings([made, grows, takes]) == []
