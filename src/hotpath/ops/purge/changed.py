"""Which URLs a cache may hold other bytes of, from one generation to another."""

from __future__ import annotations

from hotpath.store.manifest import Manifest


def changed_keys(before: Manifest | None, after: Manifest) -> list[str]:
    """The keys whose bytes differ in any coding, and those that came or went; all of them where ``before`` is unknown.

    A key that came counts too: the app may have answered it, and a 404 is kept as well.
    """
    if before is None:
        return list(after.items)
    changed = [
        key
        for key, item in after.items.items()
        if (old := before.items.get(key)) is None or old.digests != item.digests
    ]
    return changed + [key for key in before.items if key not in after.items]
