"""Each way to send an alert, with a real server that works, hangs, refuses, drops or shows a wrong certificate."""

from __future__ import annotations

import socket
import time
import traceback
from email import message_from_bytes
from email.policy import default
from typing import Any

import orjson
import pytest

from hotpath.errors import DeclarationError, Unreachable
from hotpath.ops.alerts.apprise import Apprise
from hotpath.ops.alerts.mail import Mail
from hotpath.ops.alerts.message import FAILED, REMINDER, RESOLVED, TEST, Message
from hotpath.ops.alerts.ping import FAIL, START, SUCCESS, Ping
from hotpath.ops.alerts.webhook import Webhook
from hotpath.ops.secret import Secret
from tests.ops.conftest import Authority
from tests.ops.local import Answered, Mailbox, Server, closed_port, hang, mail_server, raw_server

PASSWORD = "s3cret-p4ss"
NOW = 1_800_000_000
MESSAGE = Message(
    "prices.example.org",
    FAILED,
    "build.failed",
    "3 of 40 items failed, größer als erlaubt",
    NOW,
    ("/rankings/kospi: no prices",),
)


@pytest.fixture(autouse=True)
def _trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))


def mail(port: int, authority: Authority | None = None, **options: Any) -> Mail:
    given: dict[str, Any] = {
        "to": ("night@example.org",),
        "sender": "hotpath@example.org",
        "timeout_seconds": 5.0,
        "tls": authority is not None,
        **options,
    }
    return Mail("localhost" if authority else "127.0.0.1", port=port, **given)


def test_a_mail_goes_by_starttls_with_a_log_in(authority: Authority) -> None:
    box = Mailbox()
    with mail_server(box, authority.context, password=PASSWORD) as port:
        assert mail(port, authority, user="me", password=Secret(PASSWORD)).send(MESSAGE) is None
    assert box.logins == [("me", PASSWORD)]
    assert box.was_encrypted == [True]
    (envelope,) = box.mails
    assert envelope.rcpt_tos == ["night@example.org"]
    assert isinstance(envelope.content, bytes)
    found = message_from_bytes(envelope.content, policy=default)
    assert found["From"] == "hotpath@example.org"
    assert found["To"] == "night@example.org"
    assert (
        " ".join(found["Subject"].split())
        == "hotpath prices.example.org: FAILED: 3 of 40 items failed, größer als erlaubt"
    )
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["Message-ID"].endswith("@example.org>")
    body = found.get_content()
    assert "/rankings/kospi: no prices" in body
    assert "(build.failed)" in body


def test_a_mail_server_of_this_machine_needs_no_tls() -> None:
    box = Mailbox()
    with mail_server(box) as port:
        assert mail(port).send(MESSAGE) is None
    (envelope,) = box.mails
    assert isinstance(envelope.content, bytes)
    assert envelope.content.isascii(), "a server need not take 8-bit text"


def test_a_wrong_certificate_gets_no_password(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Mailbox()
    password = {"user": "me", "password": Secret(PASSWORD)}
    with (
        mail_server(box, authority.other, password=PASSWORD) as port,
        pytest.raises(Unreachable, match="certificate is not trusted"),
    ):
        mail(port, authority, **password).send(MESSAGE)
    monkeypatch.delenv("SSL_CERT_FILE")
    with (
        mail_server(box, authority.context, password=PASSWORD) as port,
        pytest.raises(Unreachable, match="certificate is not trusted"),
    ):
        mail(port, authority, **password).send(MESSAGE)
    assert (box.logins, box.mails) == ([], [])


def test_a_server_without_starttls_gets_nothing(authority: Authority) -> None:
    box = Mailbox()
    with mail_server(box) as port, pytest.raises(Unreachable, match="offers no STARTTLS"):
        mail(port, authority).send(MESSAGE)
    assert box.mails == []


def test_a_refused_password_is_told_without_the_password(authority: Authority) -> None:
    box = Mailbox()
    way = None
    with mail_server(box, authority.context, password="another") as port:
        way = mail(port, authority, user="me", password=Secret(PASSWORD))
        with pytest.raises(Unreachable) as told:
            way.send(MESSAGE)
    assert "user or password refused: 535 5.7.8 wrong: ***" in str(told.value)
    assert PASSWORD in box.logins[0][1], "the server did get it"
    assert told.value.__context__ is None, "which would keep the frames of smtplib"
    stack = traceback.TracebackException.from_exception(told.value, capture_locals=True).stack
    frames = [frame for frame in stack if frame.filename != __file__]
    assert "mail.py" in frames[-1].filename
    for text in (str(told.value), *(str(frame.locals) for frame in frames), repr(way), repr(told.value.__dict__)):
        assert PASSWORD not in text


def test_a_refused_recipient_is_told_and_the_others_get_it() -> None:
    box = Mailbox(refused=frozenset({"gone@example.org"}))
    with mail_server(box) as port:
        way = mail(port, to=("gone@example.org", "night@example.org"))
        warning = way.send(MESSAGE)
        assert warning == "not taken for gone@example.org: 550 no such user here; the others have it"
        assert len(box.mails) == 1
        with pytest.raises(Unreachable, match=r"gone@example\.org: 550 no such user"):
            mail(port, to=("gone@example.org",)).send(MESSAGE)


def test_data_that_is_refused_or_cut_off() -> None:
    with (
        mail_server(Mailbox(data_answer="554 5.7.1 spam")) as port,
        pytest.raises(Unreachable, match=r"554 5\.7\.1 spam"),
    ):
        mail(port).send(MESSAGE)
    with (
        mail_server(Mailbox(data_answer="drop")) as port,
        pytest.raises(Unreachable, match=r"connection was dropped; whether the mail was taken is not known"),
    ):
        mail(port).send(MESSAGE)


def greet_slowly(connection: socket.socket) -> None:
    """Each read ends in time, the greeting never does."""
    for number in range(200):
        connection.sendall(b"220-%d\r\n" % number)
        time.sleep(0.05)


def greet_and_hang(connection: socket.socket) -> None:
    connection.sendall(b"220 hello\r\n")
    hang(connection)


@pytest.mark.parametrize(
    "talk", [hang, *(pytest.param(talk, marks=pytest.mark.slow) for talk in (greet_slowly, greet_and_hang))]
)
def test_a_dead_mail_server_costs_its_timeout_and_no_more(talk: Any) -> None:
    with raw_server(talk) as port:
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"within 0\.5 s"):
            mail(port, timeout_seconds=0.5).send(MESSAGE)
        assert time.monotonic() - started < 8


def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        mail(closed_port()).send(MESSAGE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": ()}, "write who gets the mail"),
        ({"to": ("night",)}, "no mail address"),
        ({"host": f"smtp://me:{PASSWORD}@mail.example.org"}, "host is no host name"),
        ({"sender": "a@b\nBcc: c@d"}, "no mail address"),
        ({"user": "me"}, "go together"),
        ({"user": "me", "password": Secret("pässword")}, "beyond ASCII"),
        ({"tls": False, "user": "me", "password": Secret(PASSWORD), "host": "mail.example.org"}, "in the open"),
    ],
)
def test_mail_that_could_not_work_fails_at_once(options: dict[str, Any], told: str) -> None:
    given = {"host": "localhost", "to": ("a@b.c",), "sender": "a@b.c", **options}
    with pytest.raises(DeclarationError, match=told) as error:
        Mail(**given)
    assert PASSWORD not in str(error.value)


def test_a_webhook_gets_the_alert_as_json() -> None:
    with Server(lambda asked: Answered(204)) as server:
        way = Webhook(Secret(f"{server.url}/hooks/T0KEN?x=1"))
        assert way.send(MESSAGE) is None
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("POST", "/hooks/T0KEN?x=1")
    assert asked.headers["content-type"] == "application/json"
    told = orjson.loads(asked.body)
    assert {name: told[name] for name in ("site", "event", "kind", "details")} == {
        "site": "prices.example.org",
        "event": "failed",
        "kind": "build.failed",
        "details": ["/rankings/kospi: no prices"],
    }
    assert told["text"].startswith("hotpath prices.example.org: FAILED")
    assert "T0KEN" not in way.name + repr(way)


@pytest.mark.parametrize(("status", "location"), [(500, None), (404, None), (302, "http://127.0.0.1:1/")])
def test_a_webhook_that_does_not_take_it(status: int, location: str | None) -> None:
    headers = {"Location": location} if location else {}
    with (
        Server(lambda asked: Answered(status, b"T0KEN is wrong", headers)) as server,
        pytest.raises(Unreachable, match=f"it answered {status}") as told,
    ):
        Webhook(Secret(f"{server.url}/hooks/T0KEN")).send(MESSAGE)
    assert "T0KEN" not in str(told.value)
    assert len(server.asked) == 1, "not followed, not repeated"


@pytest.mark.slow
def test_a_webhook_that_hangs_costs_its_timeout() -> None:
    with raw_server(hang) as port:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="no whole answer"):
            Webhook(Secret(f"http://127.0.0.1:{port}/"), timeout_seconds=0.4).send(MESSAGE)
        assert time.monotonic() - started < 8


def test_a_ping_is_a_start_a_success_or_a_fail() -> None:
    with Server(lambda asked: Answered(200, b"OK")) as server:
        ping = Ping(Secret(f"{server.url}/0d338dcc?create=1"))
        ping.send(START)
        ping.send(SUCCESS, "12 items")
        ping.send(FAIL, "x" * 200_000)
    assert [asked.target for asked in server.asked] == [
        "/0d338dcc/start?create=1",
        "/0d338dcc?create=1",
        "/0d338dcc/fail?create=1",
    ]
    assert [len(asked.body) for asked in server.asked] == [0, 8, 10_000]
    with Server(lambda asked: Answered(404)) as server, pytest.raises(Unreachable, match="it answered 404"):
        Ping(Secret(server.url)).send(START)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
def test_apprise_delivers_by_its_own_url() -> None:
    pytest.importorskip("apprise", reason="apprise, the extra 'alerts', is not installed")
    with Server(lambda asked: Answered(200)) as server:
        way = Apprise(Secret(f"json://user:T0KEN@127.0.0.1:{server.port}/path"))
        assert way.send(MESSAGE) is None
    (asked,) = server.asked
    told = orjson.loads(asked.body)
    assert told["title"] == MESSAGE.subject
    assert "no prices" in told["message"]
    assert told["type"] == "failure"
    assert way.name == "apprise 1 (json://***)"
    assert "T0KEN" not in repr(way)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise's own
def test_apprise_that_does_not_deliver(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("apprise", reason="apprise, the extra 'alerts', is not installed")
    with pytest.raises(Unreachable, match="could not deliver"):
        Apprise(Secret(f"json://127.0.0.1:{closed_port()}")).send(MESSAGE)
    with raw_server(hang) as port, pytest.raises(Unreachable, match=r"not done within 0\.3 s"):
        Apprise(Secret(f"json://127.0.0.1:{port}?cto=2&rto=2"), timeout_seconds=0.3).send(MESSAGE)
    with pytest.raises(DeclarationError, match="none that apprise knows") as told:
        Apprise(Secret("tgramm://T0KEN/chat"))
    assert "T0KEN" not in str(told.value)


@pytest.mark.parametrize(
    ("event", "seconds", "subject"),
    [
        (FAILED, 0, "hotpath s: FAILED: a b"),
        (REMINDER, 90_000, "hotpath s: STILL FAILING since 25 h: a b"),
        (RESOLVED, 90_000, "hotpath s: resolved: a b"),
        (TEST, 0, "hotpath s: test: a b"),
    ],
)
def test_a_subject_is_one_short_line(event: str, seconds: int, subject: str) -> None:
    assert Message("s", event, "k", "a\nb", NOW, seconds=seconds).subject == subject
    assert len(Message("s", event, "k", "x" * 5000, NOW).subject) < 220


def test_long_details_are_cut() -> None:
    text = Message("s", FAILED, "k", "a", NOW, tuple(f"item {number}" for number in range(500))).text
    assert "item 29" in text
    assert "item 30" not in text
    assert "and 470 more" in text


def test_a_mail_is_seven_bit_whatever_its_texts_are() -> None:
    box = Mailbox()
    told = Message("größe.example.org", FAILED, "build.failed", "値 " * 60, NOW, ("/데이터: " + "é" * 2000, "a\tb"))
    with mail_server(box) as port:
        assert mail(port).send(told) is None
    (envelope,) = box.mails
    assert isinstance(envelope.content, bytes)
    assert envelope.content.isascii()
    assert max(map(len, envelope.content.splitlines())) <= 998, "RFC 5322 §2.1.1"
    got = message_from_bytes(envelope.content, policy=default)
    # The standard library loses the spaces at which it folds an encoded subject; the text has it whole.
    assert got["subject"].replace(" ", "") == told.subject.replace(" ", "")
    assert told.subject.strip() in got.get_content()
    assert "é" * 2000 in got.get_content()


@pytest.mark.parametrize("field", ["to", "sender"])
def test_an_address_that_needs_smtputf8_is_refused_when_it_is_declared(field: str) -> None:
    address = "jürgen@example.org"
    options: dict[str, Any] = {field: (address,) if field == "to" else address}
    with pytest.raises(DeclarationError, match="is no mail address"):
        mail(25, **options)


@pytest.mark.parametrize("name", ["web-1", "größe"])
def test_a_silent_resolver_and_any_host_name_keep_no_mail_back(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def silent(*_: object) -> str:
        raise AssertionError("a look-up of the own name")

    monkeypatch.setattr(socket, "getfqdn", silent)
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    box = Mailbox()
    with mail_server(box) as port:
        assert mail(port).send(MESSAGE) is None
    assert len(box.mails) == 1
