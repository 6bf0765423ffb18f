"""``hotpath check``: ask the public endpoints as a crawler would, and compare with what was published."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

from hotpath.errors import DeclarationError, HotpathError, PublicUnseen
from hotpath.ops.answers import (
    Comparison,
    Expected,
    Mismatch,
    PublicPage,
    Replies,
    compare,
    edge_status,
    is_refused,
    most_bytes,
)
from hotpath.ops.crawler import percentile
from hotpath.ops.http import USER_AGENT, Client, Reply, check_user_agent, parse_url, request_target
from hotpath.site import Hotpath
from hotpath.store.manifest import Manifest
from hotpath.store.store import Store

# Pages asked for beside the critical ones, at least one of each route: enough to tell a route from a page.
DEFAULT_SAMPLE = 20

# Seconds for which a wrong answer is asked for again: a server follows a publish within one or two.
DEFAULT_WAIT_SECONDS = 10.0
PAUSE_SECONDS = 0.5

DEFAULT_TIMEOUT_SECONDS = 5.0

# Concurrent requests: enough to be done in seconds, too few to be a load.
DEFAULT_CONCURRENCY = 4

# Longest Retry-After that is waited for; a server that wants more time is not asked again.
MAX_RETRY_AFTER_SECONDS = 60.0

# Pages without any answer, counted from the first, after which the others are not asked.
GIVE_UP_AFTER = 8


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How much is asked, and how. ``sample`` pages are asked for beside the critical ones, all with ``everything``.

    ``edge`` says that a cache stands in front, whose copies may be older. A wrong answer is asked for again for
    ``wait_seconds``; a ``Retry-After`` is kept to, up to a minute. With ``max_seconds`` a slower answer is wrong.
    ``user_agent`` is what a firewall has to let pass. Raises ``DeclarationError``.
    """

    sample: int = DEFAULT_SAMPLE
    everything: bool = False
    edge: bool = False
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    wait_seconds: float = DEFAULT_WAIT_SECONDS
    concurrency: int = DEFAULT_CONCURRENCY
    max_seconds: float | None = None
    user_agent: str = USER_AGENT

    def __post_init__(self) -> None:
        if self.sample < 0:
            raise DeclarationError(f"sample={self.sample}: write how many pages to ask for, 0 or more")
        if not 1 <= self.concurrency <= 64:
            raise DeclarationError(f"concurrency={self.concurrency}: write how many to ask at once, 1 to 64")
        for name in ("timeout_seconds", "max_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DeclarationError(f"{name}={value:g}: write a number of seconds above 0")
        check_user_agent(self.user_agent)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the public endpoints answered, beside generation ``generation``.

    ``asked`` of ``pages`` were asked for, ``critical`` of them are critical; ``answered`` got an answer below 500;
    ``asked_again`` answers were right only when they were asked for again. ``seconds`` are the times of all
    answers, ``edge`` counts what a cache said of them. ``failures`` are wrong; ``unseen`` are answers that say nothing
    of what was published, so that nothing is known of these pages.
    """

    base_url: str
    generation: int
    pages: int
    asked: int
    answered: int
    critical: int
    asked_again: int
    failures: tuple[Mismatch, ...]
    unseen: tuple[Mismatch, ...]
    notes: tuple[str, ...]
    seconds: tuple[float, ...] = field(repr=False)
    slowest: str | None
    edge: Mapping[str, int]

    @property
    def is_right(self) -> bool:
        """Whether every page was looked at, and is what was published."""
        return not self.failures and not self.unseen

    @property
    def exit_code(self) -> int:
        """For the command: 1 where an answer is wrong, 69 where the site could not be looked at."""
        return 1 if self.failures else PublicUnseen.exit_code if self.unseen else 0

    def as_dict(self) -> dict[str, object]:
        """For ``--json``. Times are in milliseconds."""
        facts = asdict(self)
        del facts["seconds"]
        shares = (("median", 0.5), ("p99", 0.99), ("slowest", 1.0)) if self.seconds else ()
        latency = {name: round(percentile(self.seconds, share) * 1e3, 1) for name, share in shares}
        return {"right": self.is_right, **facts, "latency_ms": latency or None}


def public_base(base_url: str, name: str = "--base-url") -> str:
    """A base URL without the slash at its end. Raises ``DeclarationError`` that says what to write for ``name``."""
    parts = parse_url(base_url, name, secret="@" in base_url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise DeclarationError(
            f"{name}: write what stands before the path of every page, https://example.org; no user, no query"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def check(
    site: Hotpath | Store,
    base_url: str,
    options: CheckOptions | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> CheckReport:
    """Ask ``base_url`` for the pages that ``site`` has published. Changes nothing.

    A ``Hotpath`` knows which pages are critical and what a payload has to hold; with a ``Store`` only the manifest is
    compared with. Pages of watched directories are in no manifest and are not asked for. Blocks; an event loop calls
    it in a thread. Raises ``NothingPublished``, ``DeclarationError``.
    """
    options = options or CheckOptions()
    base_url = public_base(base_url)
    store = site.store if isinstance(site, Hotpath) else site
    until = monotonic() + options.wait_seconds
    first_wrong = None
    has_waited = False
    while True:
        plan = _plan(site, store, base_url, options)
        asked = _ask_all(plan.pages, base_url, options)
        wrong = _wrong(plan, asked, store, options)
        first_wrong = len(wrong) if first_wrong is None else max(first_wrong, len(wrong))
        while wrong and monotonic() < until and plan.generation == store.chosen_sequence():
            pause = max((reply.retry_after_seconds for url in wrong for reply in asked[url].all), default=0.0)
            if pause > MAX_RETRY_AFTER_SECONDS or (has_waited and monotonic() + pause > until):
                until = monotonic()
                break
            if monotonic() + pause > until:  # once: a server that always wants more time ends the check
                has_waited, until = True, monotonic() + pause + PAUSE_SECONDS
            sleep(max(PAUSE_SECONDS, pause))
            asked |= _ask_all([page for page in plan.pages if page.url in wrong], base_url, options)
            wrong = _wrong(plan, asked, store, options)
        if not wrong or monotonic() >= until:
            return _report(plan, asked, store, base_url, options, first_wrong - len(wrong))


@dataclass(frozen=True, slots=True)
class _Plan:
    generation: int
    at: float
    total: int
    critical: int
    pages: Sequence[PublicPage]
    says_generation: bool | None
    bad: Mapping[int, str]


def _plan(site: Hotpath | Store, store: Store, base_url: str, options: CheckOptions) -> _Plan:
    generation = store.chosen_sequence()
    pinned = store.pointer(store.pin_path)
    moved = store.pin_path if pinned and pinned.sequence == generation else store.current_path
    manifest = store.read_manifest(generation)
    expects = {route.path.text: route.expects for route in site.routes} if isinstance(site, Hotpath) else {}
    keys: dict[str, list[str]] = {}
    critical = []
    for key, item in manifest.items.items():
        if item.policy.route in expects and expects[item.policy.route].critical:
            critical.append(key)
        else:
            keys.setdefault(item.policy.route, []).append(key)
    chosen = critical + _sampled(keys, options, seed=f"{generation} {store.clock()}")
    items = [manifest.items[key] for key in chosen]
    pages = [PublicPage(base_url + item.key, item, expects.get(item.policy.route)) for item in items]
    says = None
    if isinstance(site, Hotpath) and chosen:
        from hotpath.ops.explain import explain  # loads the read side, which a check of a store alone does not need

        answer = explain(site, chosen[0])
        says = any(name == "x-hotpath-generation" for name, _ in answer.headers) if answer.hot else None
    try:
        at = moved.stat().st_mtime
    except OSError:
        at = manifest.head.created
    return _Plan(generation, at, len(manifest.items), len(critical), pages, says, _marks(store))


def _marks(store: Store) -> Mapping[int, str]:
    try:
        return store.bad()
    except (HotpathError, OSError):
        return {}


def _sampled(keys: Mapping[str, Sequence[str]], options: CheckOptions, seed: str) -> list[str]:
    """Pages of every route in turn, other ones at each run."""
    dice = random.Random(seed)
    shuffled = [dice.sample(list(group), len(group)) for group in keys.values()]
    total = sum(map(len, shuffled))
    wanted = total if options.everything else min(total, max(options.sample, len(shuffled)))
    chosen: list[str] = []
    turn = 0
    while len(chosen) < wanted:
        chosen += [group[turn] for group in shuffled if turn < len(group)][: wanted - len(chosen)]
        turn += 1
    return chosen


def _ask_all(pages: Sequence[PublicPage], base_url: str, options: CheckOptions) -> dict[str, Replies]:
    """The answers by URL. A server that answers nothing at all is not asked for every page."""
    local = threading.local()
    clients: list[Client] = []
    answered = threading.Event()
    silent = Counter[str]()
    refused = threading.Event()

    def ask(page: PublicPage) -> tuple[str, Replies]:
        if refused.is_set():
            held = Reply(0, {}, b"", 0.0, problem="not asked: the server said Retry-After")
            return page.url, Replies(held, held, held)
        if not answered.is_set() and silent["pages"] >= GIVE_UP_AFTER:
            given_up = Reply(0, {}, b"", 0.0, problem=f"not asked: {GIVE_UP_AFTER} pages before got no answer")
            return page.url, Replies(given_up, given_up, given_up)
        if not hasattr(local, "client"):
            local.client = Client(base_url, timeout_seconds=options.timeout_seconds, shown=base_url)
            clients.append(local.client)
        answers = _ask(local.client, page, options.user_agent)
        if any(reply.retry_after_seconds and is_refused(reply) for reply in answers.all):
            refused.set()
        if any(reply.status for reply in answers.all):
            answered.set()
        else:
            silent["pages"] += 1
        return page.url, answers

    try:
        with ThreadPoolExecutor(max_workers=options.concurrency, thread_name_prefix="hotpath-check") as workers:
            return dict(workers.map(ask, pages))
    finally:
        for client in clients:
            client.close()


def _ask(client: Client, page: PublicPage, user_agent: str) -> Replies:
    target, most = request_target(page.url), most_bytes(page.item)

    def reply(method: str, accept: str) -> Reply:
        return client.get(target, {"Accept-Encoding": accept, "User-Agent": user_agent}, method=method, max_bytes=most)

    identity = reply("GET", "identity")
    if is_refused(identity):
        return Replies(identity, identity, identity)
    return Replies(identity, reply("GET", "gzip"), reply("HEAD", "identity"))


def _comparisons(
    plan: _Plan, asked: Mapping[str, Replies], store: Store, options: CheckOptions
) -> list[tuple[PublicPage, Comparison]]:
    says = plan.says_generation
    if says is None:
        says = any(reply.generation is not None for replies in asked.values() for reply in replies.all)
    digests = _Digests(store)
    older = [sequence for sequence in reversed(store.sequences()) if sequence != plan.generation]
    published = Expected(plan.generation, plan.at, store.clock(), plan.bad, digests, says, older)
    return [
        (page, compare(page, asked[page.url], published, edge=options.edge, max_seconds=options.max_seconds))
        for page in plan.pages
    ]


def _wrong(plan: _Plan, asked: Mapping[str, Replies], store: Store, options: CheckOptions) -> set[str]:
    compared = _comparisons(plan, asked, store, options)
    return {page.url for page, comparison in compared if comparison.failures or comparison.unseen}


def _report(
    plan: _Plan, asked: Mapping[str, Replies], store: Store, base_url: str, options: CheckOptions, again: int
) -> CheckReport:
    compared = _comparisons(plan, asked, store, options)
    notes = [note for _, comparison in compared for note in comparison.notes]
    answers = [(answer, url) for url, replies in asked.items() for answer in replies.all if answer.status]
    if any(answer.status == 200 for answer, _ in answers) and all(answer.generation is None for answer, _ in answers):
        notes.append(
            "no answer says its generation (generation_header=False, or a cache takes it away); the bytes were compared"
        )
    return CheckReport(
        base_url=base_url,
        generation=plan.generation,
        pages=plan.total,
        asked=len(plan.pages),
        answered=sum(0 < replies.identity.status < 500 for replies in asked.values()),
        critical=plan.critical,
        asked_again=again,
        failures=tuple(failure for _, comparison in compared for failure in comparison.failures),
        unseen=tuple(unseen for _, comparison in compared for unseen in comparison.unseen),
        notes=tuple(notes),
        seconds=tuple(answer.seconds for answer, _ in answers),
        slowest=max(answers, key=lambda pair: pair[0].seconds)[1] if answers else None,
        edge=Counter(status for answer, _ in answers if (status := edge_status(answer.headers)))
        if options.edge
        else {},
    )


class _Digests:
    """The digest a key had in another generation of the store, where that can still be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._manifests: dict[int, Manifest | None] = {}

    def __call__(self, generation: int, key: str) -> bytes | None:
        if generation not in self._manifests:
            try:
                self._manifests[generation] = self._store.read_manifest(generation)
            except (HotpathError, OSError):
                self._manifests[generation] = None
        manifest = self._manifests[generation]
        item = manifest.items.get(key) if manifest else None
        return item.identity.sha256 if item else None


def lines(report: CheckReport, most: int = 20) -> list[str]:
    """The report as a person reads it: equal failures are one line, ``most`` kinds at most."""
    critical = f", {report.critical} of them critical" if report.critical else ""
    lines = [
        f"{report.base_url}: {report.asked} of {report.pages} pages asked for{critical}, generation {report.generation}"
    ]
    if report.seconds:
        median, late, slowest = (percentile(report.seconds, share) * 1e3 for share in (0.5, 0.99, 1.0))
        lines.append(
            f"  answered in {median:.0f} ms (median), 99 % in {late:.0f} ms, {report.slowest} in {slowest:.0f} ms"
        )
    if report.edge:
        lines.append("  edge: " + ", ".join(f"{status} {count}" for status, count in sorted(report.edge.items())))
    lines += _kinds("WRONG", report.failures, most) + _kinds("NOT SEEN", report.unseen, most)
    lines += [f"note: {note}" for note in report.notes[:most]]
    if len(report.notes) > most:
        lines.append(f"… and {len(report.notes) - most} more notes")
    if report.asked_again:
        lines.append(f"{report.asked_again} were right only when asked again")
    wrong, unseen = (len({failure.url for failure in some}) for some in (report.failures, report.unseen))
    if unseen:
        lines.append(f"could not look at {unseen} of {report.asked} pages: nothing is known of them")
    if wrong:
        lines.append(f"{wrong} of {report.asked} pages are WRONG")
    if not wrong and not unseen:
        lines.append("every answer is what was published")
    return lines


def _kinds(word: str, failures: Sequence[Mismatch], most: int) -> list[str]:
    alike: dict[Mismatch, list[str]] = {}
    for failure in failures:
        alike.setdefault(replace(failure, url=""), []).append(failure.url)
    lines = []
    for failure, urls in list(alike.items())[:most]:
        more = f" and {len(urls) - 1} more" if len(urls) > 1 else ""
        lines += [
            f"{word} {urls[0]}{more}: {failure.what}",
            f"      expected {failure.expected}",
            f"      found    {failure.found}" + (f"; {failure.why}" if failure.why else ""),
        ]
    if len(alike) > most:
        lines.append(f"… and {len(alike) - most} more kinds (--json has all)")
    return lines
