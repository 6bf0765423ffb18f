"""A site of nginx 1.18 and newer: hot pages from the store, the app behind it, its last good answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hotpath.ops.render.escape import nginx, one_line
from hotpath.ops.render.facts import SiteFacts, head
from hotpath.ops.render.files import RenderedFile
from hotpath.ops.render.hot_lines import (
    HotLine,
    generation_header,
    host_pattern,
    hot_lines,
    tracking_pattern,
    trust_note,
)
from hotpath.ops.render.template import commented, fill

# Each wait is 2 seconds; a browser and a crawler wait longer than that in all.
WAITS: Final = 7
# Above the app's port: where nginx's own slow answer is.
WAIT_PORT: Final = 9
_LISTEN: Final = "80"


def render(facts: SiteFacts) -> list[RenderedFile]:
    """One file for ``conf.d``, to which ``http {}`` belongs."""
    found = hot_lines(facts)
    var = facts.name.replace("-", "_").lower()
    known = ("name", "hosts", "port")
    notes = [*head(facts, *known), *trust_note(facts), *found.left_out_notes()]
    store = nginx(str(facts.store))[:-1]
    wait = facts.port + WAIT_PORT
    hosts = host_pattern(facts)
    values = {
        "head": commented(notes),
        "name": facts.name,
        "var": var,
        "port": facts.port,
        "wait_port": wait,
        "hold": "\n".join(
            f"    server 127.0.0.1:{port} max_fails=0;" for _ in range(WAITS) for port in (wait, facts.port)
        ),
        "tracking": tracking_pattern(facts).replace("[^&]*)?", "[^&]*+)?+"),
        "source": _source(facts, hosts, var),
        "files": "\n".join(
            f'    "{_regex(line, hosts, var)}" "/{line.file.replace("${", f"${{{var}_")}";' for line in found.lines
        ),
        "fields_map": _fields_map(facts, found.lines, hosts, var),
        "scheme": f"{var}_scheme" if facts.trust else "scheme",
        "scheme_map": _scheme_map(facts, var),
        "redirect": _redirect(facts),
        "listen": _listen(facts),
        "hosts": " ".join(facts.hosts),
        "real_ip": _real_ip(facts),
        "current": f'{store}/current"',
        "generation": f'{store}/generations/${var}_generation/files"',
        "types": "\n".join(f"            {nginx(kind)} {ending};" for ending, kind in _types(found.lines).items()),
        "add_headers": _add_headers(facts, found.lines, var),
    }
    return [RenderedFile(f"etc/nginx/conf.d/{facts.name}.conf", fill("nginx.conf", values))]


def _source(facts: SiteFacts, hosts: str | None, var: str) -> str:
    cookie = f"$cookie_{facts.cookie}" if facts.cookie else ""
    return f"{cookie}{'$host ' if hosts else ''}$request_method ${var}_target"


def _regex(line: HotLine, hosts: str | None, var: str, named: bool = True) -> str:
    pattern, number = line.pattern, 0
    while named and "([A" in pattern:
        number += 1
        pattern = pattern.replace("([A", f"(?<{var}_{number}>[A", 1)
    return f"~^{f'{hosts} ' if hosts else ''}(?:GET|HEAD) {pattern}$"


def _types(lines: Sequence[HotLine]) -> dict[str, str]:
    return {line.ending: line.policy.media_type for line in lines}


def _field_sets(lines: Sequence[HotLine]) -> list[dict[str, str]]:
    sets: list[dict[str, str]] = []
    for line in lines:
        if line.fields not in sets:
            sets.append(line.fields)
    return sets


def _fields_map(facts: SiteFacts, lines: Sequence[HotLine], hosts: str | None, var: str) -> str:
    """Maps from a request to the fields of its route, where routes differ."""
    sets = _field_sets(lines)
    if len(sets) < 2:
        return ""
    rows = [f'    "{_regex(line, hosts, var, named=False)}" {sets.index(line.fields)};' for line in lines]
    maps = [f'map "{_source(facts, hosts, var)}" ${var}_fields {{', '    default "";', *rows, "}"]
    for number, name in enumerate(_names(sets)):
        maps += ["", f"map ${var}_fields ${var}_field_{number} {{", '    default "";']
        maps += [f"    {index} {nginx(fields[name])};" for index, fields in enumerate(sets) if name in fields]
        maps += ["}"]
    return "\n" + "\n".join(maps)


def _names(sets: Sequence[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for fields in sets for name in fields))


def _add_headers(facts: SiteFacts, lines: Sequence[HotLine], var: str) -> str:
    sets = _field_sets(lines)
    rows = []
    for number, name in enumerate(_names(sets)):
        value = nginx(sets[0][name]) if len(sets) == 1 else f"${var}_field_{number}"
        rows.append(f"        add_header {name} {value};")
    if generation_header(facts):
        rows.append(f"        add_header X-Hotpath-Generation ${var}_generation;")
    return "\n".join(rows)


def _listen(facts: SiteFacts) -> str:
    if facts.certificate is None:
        return f"    listen {facts.listen or _LISTEN};"
    certificate, key = (nginx(one_line(path, "nginx")) for path in facts.certificate)
    return f"    listen 443 ssl http2;\n    ssl_certificate {certificate};\n    ssl_certificate_key {key};"


def _redirect(facts: SiteFacts) -> str:
    if facts.certificate is None:
        return ""
    return (
        f"\nserver {{\n    listen {facts.listen or _LISTEN};\n    server_name {' '.join(facts.hosts)};\n"
        "    return 308 https://$host$request_uri;\n}\n"
    )


def _real_ip(facts: SiteFacts) -> str:
    if not facts.trust:
        return ""
    rows = ["    # The client's address, as these say it.", *(f"    set_real_ip_from {net};" for net in facts.trust)]
    return "\n".join([*rows, "    real_ip_header X-Forwarded-For;", "    real_ip_recursive on;"])


def _scheme_map(facts: SiteFacts, var: str) -> str:
    if not facts.trust:
        return ""
    rows = [f"    {net} 1;" for net in facts.trust]
    geo = [f"geo $realip_remote_addr ${var}_is_trusted {{", "    default 0;", *rows, "}"]
    scheme = [f'map "${var}_is_trusted$http_x_forwarded_proto" ${var}_scheme {{', "    default $scheme;"]
    return "\n" + "\n".join([*geo, *scheme, "    1https https;", "}"]) + "\n"
