"""Following the origin of a site in this process: made once for a ``Hotpath``, however many middlewares ask."""

from __future__ import annotations

import threading
import weakref

from hotpath.site import Hotpath
from hotpath.store.origin.following import Following

_followings: weakref.WeakKeyDictionary[Hotpath, Following] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def following_of(hot: Hotpath) -> Following | None:
    """What follows the origin of ``hot``, not started yet; ``None`` where that is ``"off"``.

    Raises ``DeclarationError`` where there is none, by the environment or the declaration, or it cannot be used.
    """
    if hot.sharing.is_off():
        return None
    with _making:
        following = _followings.get(hot)
        if following is None:
            following = _followings[hot] = Following(hot.store, hot.sharing.effective())
            weakref.finalize(hot, following.stop)
    return following
