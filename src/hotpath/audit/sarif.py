"""Findings as SARIF 2.1.0 (OASIS), which code-review tools show beside the line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from urllib.parse import quote

from hotpath.audit.findings import Finding, Pattern, Unread

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(findings: Iterable[Finding], unread: Iterable[Unread]) -> dict[str, object]:
    """One run, ready for ``json.dumps``."""
    order = list(Pattern)
    rules = [{"id": str(pattern), "shortDescription": {"text": pattern.summary}} for pattern in order]
    run = {
        "tool": {"driver": {"name": "hotpath audit", "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, order) for finding in findings],
        "invocations": [
            {"executionSuccessful": True, "toolExecutionNotifications": [_notification(file) for file in unread]}
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, order: list[Pattern]) -> dict[str, object]:
    # Line numbers move with every edit above, so a finding is identified by what it is about.
    about = "\0".join((finding.path, finding.pattern, finding.name, finding.text))
    return {
        "ruleId": str(finding.pattern),
        "ruleIndex": order.index(finding.pattern),
        "level": str(finding.level),
        "message": {"text": f"{finding.name}: {finding.why}. Instead: {finding.instead}"},
        "locations": [_location(finding.path, finding.line)],
        "partialFingerprints": {"about/v1": hashlib.sha256(about.encode("utf-8", "replace")).hexdigest()[:32]},
    }


def _notification(file: Unread) -> dict[str, object]:
    return {
        "level": "warning",
        "message": {"text": f"skipped: {file.problem}"},
        "locations": [_location(file.path, file.line)],
    }


def _location(path: str, line: int | None) -> dict[str, object]:
    place: dict[str, object] = {"artifactLocation": {"uri": quote(path)}}
    if line is not None:
        place["region"] = {"startLine": line}
    return {"physicalLocation": place}
