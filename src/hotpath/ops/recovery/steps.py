"""The steps of a recovery, in order. Each looks at the store, and says what is to be done, if anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hotpath.errors import BuildFailed, Implausible, StoreError
from hotpath.ops.check import check
from hotpath.ops.check import lines as check_lines
from hotpath.ops.purge.changed import changed_keys
from hotpath.ops.recovery.incident import Incident, RecoveryOptions, Stopped
from hotpath.ops.warm import warm
from hotpath.options import counted
from hotpath.store.repair import repair
from hotpath.store.verify import verify

# Without a critical route, the number of pages asked for to warm the caches.
WARM_PAGES = 20

# Deadline of warming: a site that was just started has its first workers up by then.
WARM_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What a step did; ``facts`` are for later runs, and for the look afterwards."""

    text: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a step sees; ``apply`` does what is needed and is harmless to repeat. Without one nothing is needed."""

    text: str
    apply: Callable[[], Applied] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """``look`` changes nothing and raises ``Stopped`` where the recovery cannot go on.

    ``skip`` says why the options do not ask for the step. ``plan`` is what it would do in words, where ``look`` cannot
    say so before the steps above it, or would ask a server.
    """

    name: str
    look: Callable[[Incident], Inspection]
    skip: Callable[[RecoveryOptions], str | None] = lambda options: None
    plan: Callable[[Incident], str] | None = None


def _verify(incident: Incident) -> Inspection:
    """Read everything, repair what needs no guess; what stays damaged is for the next step."""
    report = verify(incident.store)
    read = f"{counted(report.generations, 'generation')}, {counted(report.files, 'file')} read"
    wrong = [*report.problems, *map(str, report.damages)]
    if not wrong:
        return Inspection(f"{read}: every file is what was published")
    if set(incident.facts.get(("verify", "left")) or ()).issuperset(wrong):
        return Inspection(f"{read}: {len(wrong)} cannot be repaired ({wrong[0]})")

    def apply() -> Applied:
        if incident.was_begun("roll back") and _is_rollback_half_done(incident):
            incident.store.rollback()  # finishes it; a repair would take what is left of it for damage
        after = repair(incident.store)
        left = [*after.problems, *map(str, after.damages)]
        repaired = f"{len(after.repaired)} repaired" if after.repaired else "nothing could be repaired"
        rest = f"{len(left)} cannot be repaired ({left[0]})" if left else "every file is right"
        return Applied(f"{repaired}, {rest}", {"left": left})

    return Inspection(f"{read}: {len(wrong)} wrong ({wrong[0]}); repair what needs no guess", apply)


def _roll_back(incident: Incident) -> Inspection:
    """Leave a generation that is damaged, or that the caller says is wrong."""
    serving, build = incident.serving, f"hotpath recover {incident.target} --build runs the batch"
    if serving is None:
        if incident.options.build:
            return Inspection("nothing can be served yet; the batch makes a generation")
        raise Stopped("nothing can be served", build)

    def apply() -> Applied:
        start, end = incident.store.rollback(reason=reason or "recover")
        return Applied(
            f"back from generation {start} to {end}, which is pinned: builds publish beside it until"
            f" 'hotpath unpin {incident.target}'"
        )

    reason = _why_leave(incident, serving)
    if incident.was_begun("roll back") and _is_rollback_half_done(incident):
        return Inspection(f"the rollback to generation {serving} was interrupted before its end", apply)
    if reason is None:
        start = incident.begin.serving
        if incident.options.rollback and serving != start:
            return Inspection(f"generation {start} was left in this recovery, {serving} is served")
        return Inspection(f"generation {serving} is whole and stays")
    store, bad = incident.store, incident.store.bad()
    older = [n for n in store.sequences() if n < serving and n not in bad]
    target = next((n for n in reversed(older) if not store.verify_generation(n)), None)
    if target is not None:
        return Inspection(f"{reason}; go back to generation {target}, the newest valid one before it", apply)
    if incident.options.build:
        return Inspection(f"{reason}; there is none to go back to, the batch makes a new one")
    raise Stopped(
        f"{reason}, and there is no valid generation before it",
        f"{build}; pages that are whole are served meanwhile",
    )


def _why_leave(incident: Incident, serving: int) -> str | None:
    if incident.options.rollback and serving == incident.begin.serving:
        return f"generation {serving} is not wanted (--rollback)"
    damages = incident.store.verify_generation(serving)
    return f"generation {serving} is damaged ({damages[0].path.name} {damages[0].problem})" if damages else None


def _is_rollback_half_done(incident: Incident) -> bool:
    """Whether a rollback was killed between its marks and its pointer, which comes last."""
    store = incident.store
    try:
        current = store.pointer(store.current_path)
        return current is not None and current.sequence in store.bad()
    except (StoreError, OSError):
        return False


def _build(incident: Incident) -> Inspection:
    """Run the batch, once in a recovery."""
    if incident.built is not None:
        return Inspection(f"generation {incident.built} was built in this recovery")
    if incident.implausible is not None:
        return Inspection(f"the batch ran, generation {incident.implausible.sequence} is in quarantine")

    def apply() -> Applied:
        try:
            incident.run_batch(incident.hot)
        except Implausible as error:
            incident.implausible = error
            return Applied(f"the batch ran, generation {error.sequence} is in quarantine")
        except BuildFailed as error:
            first = f" ({error.failures[0]})" if error.failures else ""
            raise Stopped(f"{error}{first}", "fix what failed, then run this again") from None
        return Applied(f"generation {incident.built} is built")

    return Inspection(f"run the batch, {counted(len(incident.hot.plan()), 'item')}", apply)


def _validate(incident: Incident) -> Inspection:
    """See that what was built was accepted, and is on the disk as it was built."""
    if (refused := incident.implausible) is not None:
        raise Stopped(
            f"generation {refused.sequence} is not plausible: {'; '.join(refused.problems[:3])}",
            f"fix the data and run this again, or: hotpath approve {incident.target} {refused.sequence} --reason …",
        )
    assert incident.built is not None
    if damages := incident.store.verify_generation(incident.built):
        raise Stopped(str(damages[0]), "look at the kernel's log (dmesg): the disk does not keep what is written")
    return Inspection(f"generation {incident.built} was accepted and reads back as it was built")


def _publish(incident: Incident) -> Inspection:
    """See that the new generation is served; take away the pin that the rollback of this recovery has set."""
    store, built, serving = incident.store, incident.built, incident.serving
    if serving == built:
        return Inspection(f"generation {built} is served")
    pin = store.pointer(store.pin_path)
    if pin is None:
        raise Stopped(f"generation {built} is published, but {serving} is served", f"hotpath status {incident.target}")
    if incident.begin.pinned is not None:
        return Inspection(
            f"generation {built} is published; {serving} was pinned before and stays served until"
            f" 'hotpath unpin {incident.target}'"
        )

    def apply() -> Applied:
        pinned = store.unpin()
        return Applied(f"generation {built} is served; {pinned} is no longer pinned")

    return Inspection(f"generation {built} is published beside generation {pin.sequence}, which is pinned", apply)


def _purge(incident: Incident) -> Inspection:
    """Purge the URLs of which the edge may hold other bytes."""
    options, serving = incident.options, incident.serving
    after = incident.manifest(serving)
    # The edge may hold bytes of any generation that was served since the recovery began.
    everything = _purges_everything(incident)
    before = {None} if everything else incident.served - {serving}
    changed = (changed_keys(incident.manifest(old), after) for old in before) if after is not None else ()
    urls = list(dict.fromkeys(f"{options.base_url}{key}" for keys in changed for key in keys))
    if not urls:
        return Inspection(f"no URL has other bytes in generation {serving} than before")
    if incident.facts.get(("purge", "to")) == serving:
        return Inspection(f"{counted(len(urls), 'URL')} purged in this recovery")

    def apply() -> Applied:
        results = []
        for purger in options.purgers:
            results.append(purger.purge(urls))
            if results[-1].problem is not None:
                next_step = "fix that and run this again; until then the edge keeps its copies for their max-age"
                raise Stopped(str(results[-1]), next_step)
        return Applied(", ".join(map(str, results)), {"to": serving})

    why = "" if everything else f": other bytes in generation {serving} than before"
    return Inspection(f"purge {counted(len(urls), 'URL')}{why}", apply)


def _purges_everything(incident: Incident) -> bool:
    """Also where it is not known what the edge holds."""
    return incident.options.purge_all or incident.begin.serving is None


def _plan_purge(incident: Incident) -> str:
    start = incident.begin.serving
    what = "every URL" if _purges_everything(incident) else f"what differs from generation {start}"
    return f"purge {what}: {', '.join(purger.name for purger in incident.options.purgers)}"


def _warm(incident: Incident) -> Inspection:
    """Ask for the critical pages once, so that caches have them before people come."""
    serving = incident.serving
    if incident.facts.get(("warm", "to")) == serving:
        return Inspection(f"generation {serving} was warmed in this recovery")
    manifest = incident.manifest(serving)
    items = manifest.items if manifest is not None else {}
    critical = {route.path.text for route in incident.hot.routes if route.expects.critical}
    keys = [key for key, item in items.items() if item.policy.route in critical] or list(items)[:WARM_PAGES]

    def apply() -> Applied:
        options = incident.options
        urls = [f"{options.base_url}{key}" for key in keys]
        pages = warm(urls, deadline_seconds=WARM_SECONDS, user_agent=options.check.user_agent)
        if cold := [page for page in pages if not page.is_warm]:
            raise Stopped(
                f"{len(cold)} of {len(pages)} pages did not answer 200, the first {cold[0].url}: {cold[0].problem}",
                "start the site (or its front), see that --base-url is right, then run this again;"
                f" 'hotpath status {incident.target}' says what it would serve",
            )
        return Applied(f"{counted(len(pages), 'page')} answered 200", {"to": serving})

    return Inspection(f"ask for {counted(len(keys), 'page')}", apply)


def _check(incident: Incident) -> Inspection:
    """See what the public gets."""
    options = incident.options
    assert options.base_url is not None
    report = check(incident.hot, options.base_url, options.check)
    if not report.is_right:
        raise Stopped(
            f"{check_lines(report)[-1]}, the first {(report.failures or report.unseen)[0]}",
            f"'hotpath check {incident.target} --base-url {options.base_url}' names all; fix that, run again",
        )
    pages = f"{report.asked} of {report.pages} pages asked for"
    return Inspection(f"{pages}, every answer is generation {report.generation}")


def _without_build(options: RecoveryOptions) -> str | None:
    return None if options.build else "nothing was built"


def _without_url(options: RecoveryOptions) -> str | None:
    return None if options.base_url is not None else "no --base-url is given"


def _without_purger(options: RecoveryOptions) -> str | None:
    return _without_url(options) or (None if options.purgers else "no HOTPATH_PURGE_… is set")


# In their order; the names are those in the journal and in the checklist.
STEPS = (
    Step("verify", _verify),
    Step("roll back", _roll_back),
    Step("build", _build, lambda options: None if options.build else "not asked for (--build)"),
    Step("validate", _validate, _without_build, lambda _: "see that the new generation is plausible and reads back"),
    Step("publish", _publish, _without_build, lambda _: "serve the new generation"),
    Step("purge", _purge, _without_purger, _plan_purge),
    Step("warm", _warm, _without_url, lambda it: f"ask for the critical pages of {it.options.base_url}"),
    Step(
        "check", _check, _without_url, lambda it: f"compare the answers of {it.options.base_url} with what is published"
    ),
)
