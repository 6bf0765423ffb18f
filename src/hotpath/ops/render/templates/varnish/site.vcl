vcl 4.1;

<<head>>

import std;
import purge;

# The front, or the app itself.
backend default {
    .host = "127.0.0.1";
    .port = "<<port>>";
    .connect_timeout = 2s;
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}

# Who may purge.
acl <<var>>_purgers {
    "127.0.0.1";
    "::1";
}
<<trusted_acl>>
sub vcl_recv {
    if (req.restarts == 0) {
        unset req.http.X-Hotpath-Stale;
<<forwarded>>
    }
    if (req.method == "PURGE") {
        if (client.ip !~ <<var>>_purgers) {
            return (synth(403, "Not from there"));
        }
        return (hash);
    }
    if (req.http.Upgrade ~ "(?i)^websocket$") {
        return (pipe);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
<<cookie>>
    # Varnish does not know these two, and answers 416 to ranges that RFC 9110 has ignored.
    if (req.http.If-Match || req.http.If-Unmodified-Since) {
        return (pass);
    }
    if (req.method == "HEAD" || req.http.Range !~ "^bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$") {
        unset req.http.Range;
    }
    # There is an old copy, and the app is asked first: as if there were none.
    if (req.http.X-Hotpath-Stale == "there") {
        set req.grace = 0s;
    } elsif (req.http.X-Hotpath-Stale == "give") {
        set req.grace = 604800s;
    }
    return (hash);
}

sub vcl_hash {
    # Parameters of advertising and mail choose no hot page.
    if (regsub(req.url, "\?(?:<<tracking>>(?:&|$))*+$", "") ~ "^(?:<<hot>>)$") {
        hash_data(regsub(req.url, "\?(?:<<tracking>>(?:&|$))*+$", ""));
    } else {
        hash_data(req.url);
    }
    hash_data(req.http.Host);
    return (lookup);
}

sub vcl_hit {
    if (req.method == "PURGE") {
        # The copy stays for when the app is down. A grace of a second less says that it was purged.
        set req.http.X-Hotpath-Purged = purge.soft(0s, 604799s, 0s);
        return (synth(200, "Purged"));
    }
    # Who may be somebody gets only what is the same for everybody.
    if ((req.http.Cookie || req.http.Authorization) && !obj.http.X-Hotpath-Hot) {
        return (pass);
    }
    if (obj.ttl > 0s || req.http.X-Hotpath-Stale) {
        return (deliver);
    }
    # Just stale: this one is given, and a new one fetched behind it.
    if (obj.grace != 604799s && obj.ttl + std.duration(regsub(obj.http.Cache-Control,
        "^.*stale-while-revalidate=([0-9]+).*$", "\1s"), 0s) > 0s) {
        return (deliver);
    }
    set req.http.X-Hotpath-Stale = "there";
    return (restart);
}

sub vcl_miss {
    if (req.method == "PURGE") {
        set req.http.X-Hotpath-Purged = purge.soft(0s, 604799s, 0s);
        return (synth(200, "Purged"));
    }
    if (req.http.Cookie || req.http.Authorization) {
        return (pass);
    }
}

sub vcl_pass {
    if (req.method == "PURGE") {
        return (synth(200, "Purged"));
    }
}

sub vcl_backend_response {
    # An error is not put over an old copy.
    if (beresp.status >= 500) {
        if (bereq.is_bgfetch || bereq.http.X-Hotpath-Stale == "there") {
            return (abandon);
        }
        set beresp.uncacheable = true;
        set beresp.ttl = 1s;
        return (deliver);
    }
    if (beresp.status == 200 && beresp.http.Cache-Status ~ "^hotpath; hit") {
        set beresp.http.X-Hotpath-Hot = "1";
        set beresp.ttl = std.duration(regsub(beresp.http.CDN-Cache-Control, "^.*max-age=([0-9]+).*$", "\1s"), beresp.ttl);
        set beresp.grace = 604800s;
        set beresp.keep = 604800s;
        return (deliver);
    }
    # Kept is only what the app says itself that it is public.
    if (bereq.http.Cookie || bereq.http.Authorization || beresp.http.Set-Cookie
        || beresp.http.Cache-Control !~ "(?i)public|max-age"
        || beresp.http.Cache-Control ~ "(?i)private|no-store|no-cache"
        || beresp.http.Vary ~ "(?i)\*|cookie|authorization"
        || beresp.ttl <= 0s) {
        set beresp.uncacheable = true;
        set beresp.ttl = 120s;
        return (deliver);
    }
    set beresp.grace = 604800s;
    set beresp.keep = 604800s;
    return (deliver);
}

sub vcl_backend_error {
    if (bereq.is_bgfetch || bereq.http.X-Hotpath-Stale == "there") {
        return (abandon);
    }
    set beresp.status = 503;
    set beresp.http.Retry-After = "5";
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Content-Type = "text/plain";
    set beresp.body = "The site is being restarted.";
    return (deliver);
}

sub vcl_synth {
    # The app failed, and there is an old copy.
    if (req.http.X-Hotpath-Stale == "there") {
        set req.http.X-Hotpath-Stale = "give";
        return (restart);
    }
    if (resp.status == 503) {
        set resp.http.Retry-After = "5";
        set resp.http.Cache-Control = "no-store";
    }
}

sub vcl_deliver {
    unset resp.http.X-Hotpath-Hot;
    unset resp.http.X-Varnish;
}

sub vcl_pipe {
    set bereq.http.Upgrade = req.http.Upgrade;
    set bereq.http.Connection = req.http.Connection;
}
