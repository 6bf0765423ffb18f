"""RFC 9111 §3: which answers are kept."""

# ruff: noqa: E501  # a table

from tests.asgi.last_good.case import ask, down, fresh, kept, page, when_down

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
P = page

CASES = [
    # §3: a cache MUST NOT store a response unless …
    kept("RFC 9111 §3", "a GET that nothing forbids is stored", P(), is_kept=True),
    when_down("RFC 9111 §3", "the method is understood", P(), ask("app", method="POST"), down(), ask("app", status=503)),
    when_down(
        "RFC 9111 §3", "an answer to OPTIONS is not stored",
        P(), ask("app", method="OPTIONS"), down(), ask("app", status=503),
    ),
    *(
        kept("RFC 9111 §3", f"status {status} is understood", P(status=status), is_kept=True)
        for status in (200, 203, 300, 301, 308, 404, 410)
    ),
    *(
        kept("RFC 9111 §3", f"status {status} is stored where it says so", P(status=status, cache_control="max-age=9"),
             is_kept=True)
        for status in (302, 307)
    ),
    *(
        kept("RFC 9111 §3", f"status {status} is not heuristically cacheable", P(status=status), is_kept=False)
        for status in (302, 307, 303)
    ),
    *(
        kept("RFC 9111 §3", f"status {status} is not understood", P(status=status, cache_control="max-age=60"),
             is_kept=False)
        for status in (201, 206, 226, 299, 400, 401, 403, 418, 429, 451, 499, 501, 505)
    ),
    kept("RFC 9111 §3", "no-store is absent", P(cache_control="no-store"), is_kept=False),
    kept("RFC 9111 §3", "no-store among others", P(cache_control="max-age=60, No-Store"), is_kept=False),
    kept("RFC 9111 §3", "private is absent", P(cache_control="private"), is_kept=False),
    kept("RFC 9111 §3", "private with field names counts as private", P(cache_control='private="x-a"'), is_kept=False),
    kept("RFC 9111 §3", "private with a time", P(cache_control="private, max-age=60"), is_kept=False),
    kept("RFC 9111 §3", "public is a reason", P(status=302, cache_control="public"), is_kept=True),
    kept("RFC 9111 §3", "Expires is a reason", P(status=302, expires=DATE), is_kept=True),
    kept("RFC 9111 §3", "an extension that is not understood forbids nothing", P(cache_control="x-new=1"), is_kept=True),
    kept("RFC 9111 §3.3", "a part is not stored as a whole", P(status=206, content_range="bytes 0-2/9"), is_kept=False),
    kept("RFC 9111 §3.3", "a part that says it is 200 is not", P(content_range="bytes 0-2/9"), is_kept=False),
    when_down("RFC 9111 §3.3", "an answer that broke off is not stored", P([b"on", None]), ask("app"), down(),
              ask("app", status=503)),
    when_down("RFC 9111 §3.3", "one that is shorter than it says is not", P(content_length="9"), ask("app"), down(),
              ask("app", status=503)),
    when_down("RFC 9111 §3.3", "one that is longer than it says is not", P(content_length="1"), ask("app"), down(),
              ask("app", status=503)),
    when_down("RFC 9111 §3.3", "one with a length that is no number is not", P(content_length="-1"), ask("app"), down(),
              ask("app", status=503)),
    when_down("RFC 9111 §3.3", "one with two lengths is not", P(content_length=["3", "4"]), ask("app"), down(),
              ask("app", status=503)),
    # §3.1
    when_down("RFC 9111 §3.1", "fields of the connection are not stored",
              P(connection="x-hop, close", x_hop="1", keep_alive="5", te="x", proxy_authenticate="Basic", x_end="2"),
              ask("app"), down(),
              ask("cache", has={"connection": None, "x-hop": None, "keep-alive": None, "te": None,
                                "proxy-authenticate": None, "x-end": "2"})),
    when_down("RFC 9111 §3.1", "fields that are not understood are stored", P(x_new="1", content_language="de"),
              ask("app"), down(), ask("cache", has={"x-new": "1", "content-language": "de"})),
    when_down("RFC 9111 §3.1", "repeated fields stay repeated", P(link=["<a>", "<b>"]), ask("app"), down(),
              ask("cache", has={"link": "<a>, <b>"})),
    # §3.5
    when_down("RFC 9111 §3.5", "nothing of a request with Authorization is stored",
              P(), ask("app", headers={"authorization": "Bearer x"}), down(), ask("app", status=503)),
    when_down("RFC 9111 §3.5", "not even with public, which the RFC would allow",
              P(cache_control="public"), ask("app", headers={"authorization": "Bearer x"}), down(),
              ask("app", status=503)),
    when_down("RFC 9111 §3.5", "and none is answered from what is stored",
              P(), ask("app"), down(), ask("app", headers={"authorization": "Bearer x"}, status=503)),
    # Beyond the RFC: what could be somebody's own.
    kept("RFC 9111 §7.3", "Set-Cookie is not stored", P(set_cookie="sid=1"), is_kept=False),
    kept("RFC 9111 §7.3", "nor with public", P(set_cookie="sid=1", cache_control="public, max-age=9"), is_kept=False),
    when_down("RFC 9111 §7.3", "Cookie: not stored", P(), ask("app", headers={"cookie": "sid=1"}), down(),
              ask("app", status=503)),
    when_down("RFC 9111 §7.3", "Cookie: not answered from", P(), ask("app"), down(),
              ask("app", headers={"cookie": "sid=1"}, status=503)),
    when_down("RFC 9111 §7.3", "cookies of analytics count as none",
              P(), ask("app", headers={"cookie": "_ga=GA1.2"}), down(), ask("cache", headers={"cookie": "_gid=3"})),
    when_down("RFC 9111 §7.3", "an empty Cookie is one", P(), ask("app"), down(),
              ask("app", headers={"cookie": ""}, status=503)),
    # §5.2.1.5
    kept("RFC 9111 §5.2.1.5", "no-store of a request", P(), headers={"cache_control": "no-store"}, is_kept=False),
    # §5.2.2.3
    kept("RFC 9111 §5.2.2.3", "must-understand lifts no-store where the status is understood",
         P(cache_control="must-understand, no-store, max-age=60"), is_kept=True),
    kept("RFC 9111 §5.2.2.3", "must-understand forbids a status that is not",
         P(status=299, cache_control="must-understand, max-age=60"), is_kept=False),
    # A worse answer does not replace a better one.
    when_down("contract 18", "a failure does not replace", P(), ask("app"), P("broken", 500), ask("cache", body="one"),
              down(), ask("cache", body="one")),
    when_down("contract 18", "an empty 200 does not replace a full one", P(), ask("app"), P(""), ask("app", body=""),
              down(), ask("cache", body="one")),
    when_down("contract 18", "unless it may", P(), ask("app"), P(""), ask("app", body=""), down(),
              ask("cache", body=""), empty_replaces=True),
    when_down("contract 18", "an empty 200 is kept where there is none", P(""), ask("app"), down(), ask("cache", body="")),
    when_down("contract 18", "an answer that broke off does not replace", P(), ask("app"), P([b"tw", None]), ask("app"),
              down(), ask("cache", body="one")),
    *(
        when_down("contract 18", f"{status} of a living app replaces", P(), ask("app"), P("gone", status),
                  ask("app", status=status), down(), ask("cache", status=status, body="gone"))
        for status in (404, 410)
    ),
    when_down("contract 18", "401 and 403 do not replace", P(), ask("app"), P("no", 403), ask("app", status=403), down(),
              ask("cache", body="one")),
    when_down("contract 18", "an answer with Set-Cookie says nothing about the page", P(), ask("app"),
              P("two", set_cookie="sid=1"), ask("app"), down(), ask("cache", body="one")),
    *(
        when_down("contract 18", f"{word} takes the stored answer away", P(), ask("app"), P(cache_control=word),
                  ask("app"), down(), ask("app", status=503))
        for word in ("no-store", "private")
    ),
    when_down("contract 18", "Vary: * takes it away", P(), ask("app"), P(vary="*"), ask("app"), down(),
              ask("app", status=503)),
    when_down("contract 18", "somebody's own private answer does not", P(), ask("app"), P(cache_control="private"),
              ask("app", headers={"cookie": "sid=1"}), down(), ask("cache", body="one")),
    fresh("RFC 9111 §3", "the newest answer is the one that is used", P(cache_control="max-age=0", etag='"1"'),
          ask("app"), P("two", cache_control="max-age=9", etag='"2"'), ask("app", body="two"), ask("cache", body="two")),
]  # fmt: skip
