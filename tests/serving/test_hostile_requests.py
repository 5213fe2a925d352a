"""More than a thousand wrong requests to a real process: a problem each, and nothing changes."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from services.serving.store.spool import Spool
from shared import clock
from shared.artifacts import ArtifactStore
from tests.serving.alone import serving_alone
from tests.serving.bad_inputs import INFER, MODEL, OWN, V2, Bad, every_bad_request, same_meaning
from tests.serving.building import KEY, NAMES, Replica, a_desired, a_version
from tests.serving.child import Child
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real  # of sockets

GOOD = OWN["objects"]("1.5").encode()
QUICK = {"head_seconds": 0.5, "body_seconds": 0.5, "connections_limit": 60}


@pytest.fixture(
    scope="module",
    params=[True, pytest.param(False, marks=pytest.mark.nightly)],
    ids=["rollout", "one"],
)
def child(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Child]:
    """Both ways are asked where two compiled versions share what is plain."""
    folder = tmp_path_factory.mktemp("hostile")
    with serving_alone(folder, {}, rolls_out=request.param, **QUICK) as found:
        yield found


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_problem(self) -> bool:
        return self.kind == "application/problem+json" and self.document["status"] == self.status


class Caller:
    """One connection that is kept; that it would be closed by the other side is an error."""

    def __init__(self, child: Child) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", child.settings.port, timeout=10)
        self.dropped = 0

    def send(self, bad: Bad, *, key: str = KEY) -> Answer:
        headers = {"Content-Type": bad.kind, **bad.headers, "Authorization": f"Bearer {key}"}
        if not bad.kind:
            del headers["Content-Type"]
        try:
            self.connection.request("POST", bad.path, bad.body, headers)
            response = self.connection.getresponse()
            return Answer(
                response.status, response.headers.get("content-type", ""), response.read()
            )
        except (OSError, http.client.HTTPException):
            self.dropped += 1
            self.connection.close()
            return Answer(0, "", b"{}")

    def close(self) -> None:
        self.connection.close()

    def ask(self) -> Answer:
        return self.send(Bad(name="good", path=f"{MODEL}/predict", body=GOOD))


@pytest.fixture
def caller(child: Child) -> Iterator[Caller]:
    with closing(Caller(child)) as found:
        yield found


def fault_of(bad: Bad, answer: Answer) -> str | None:
    """What is wrong with an answer to a wrong request."""
    if answer.status not in bad.statuses:
        return f"{answer.status} {answer.body[:200]!r}"
    if not answer.is_problem():
        return f"no problem: {answer.kind} {answer.body[:200]!r}"
    pointers = [error["pointer"] for error in answer.document["errors"]]
    if answer.status == 422 and not pointers:
        return "no pointer"
    if any(pointer and not pointer.startswith("/") for pointer in pointers):
        return f"these are no pointers: {pointers}"
    is_short = len(answer.body) < 20_000
    is_quiet = not any(word in answer.body for word in (b"Traceback", b"site-packages", b".py"))
    return None if is_short and is_quiet else f"it tells too much: {answer.body[:200]!r}"


def test_every_wrong_request_is_a_problem_with_its_place_and_changes_nothing(
    child: Child, caller: Caller
) -> None:
    bad = every_bad_request()
    before = caller.ask().document["predictions"][0]["answer"]
    logged = rows_kept(child)

    found = [(one, caller.send(one)) for one in bad]
    after = caller.ask().document["predictions"][0]["answer"]

    wrong = {one.name: fault for one, answer in found if (fault := fault_of(one, answer))}
    statuses = Counter(answer.status for _, answer in found)
    assert wrong == {}
    assert len(bad) >= 500
    assert caller.dropped == 0
    assert after == before
    assert rows_kept(child) - logged == 1, f"only the last good one is logged; {statuses}"


def rows_kept(child: Child) -> int:
    """Rows that the process has put into its spool, read from the files that it writes."""
    folder = child.settings.data / "spool"
    return int.from_bytes((folder / "totals").read_bytes()[8:16], "little")


def test_without_a_key_nothing_of_a_body_is_looked_at(caller: Caller) -> None:
    bad = [one for one in every_bad_request() if len(one.body) < 10_000]

    statuses = Counter(caller.send(one, key="tw_wrong").status for one in bad)

    assert statuses == {401: len(bad)}
    assert caller.dropped == 0


def test_one_row_has_one_answer_however_it_is_written(caller: Caller) -> None:
    explained = next(one for one in same_meaning() if one.path.endswith("/explain"))
    wait_until(
        lambda: caller.send(explained).status == 200,
        what="the version to be opened for explanations",
    )

    answers = {one.name: answer_in(caller.send(one)) for one in same_meaning()}

    assert len(set(answers.values())) == 1, answers
    assert len(answers) >= 90


def answer_in(answer: Answer) -> float:
    """The one answer of a response, in whatever protocol."""
    assert answer.status == 200, answer
    document = answer.document
    for place in ("predictions", "explanations", "outputs"):
        if place in document:
            first = document[place][0]
            break
    if isinstance(first, dict):
        first = first["answer"] if "answer" in first else first["data"][0]
    return round(float(first), 9)


# --- below the requests: bytes ----------------------------------------------------------------

AUTH = f"Authorization: Bearer {KEY}\r\n"
HEAD = (
    f"POST {MODEL}/predict HTTP/1.1\r\nHost: x\r\n{AUTH}Content-Type: application/json\r\n"
).encode()


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + parts + end


def sized(body: bytes, length: str) -> bytes:
    return HEAD + f"Content-Length: {length}\r\n\r\n".encode() + body


LONG = b"x" * 70_000
BYTES: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "no HTTP": (b"hello\r\n\r\n", (400,)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, (400,)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "an unknown method": (HEAD.replace(b"POST", b"FOO") + b"\r\n", (400, 405)),
    "an unknown version": (HEAD.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n", (400,)),
    "no host": (HEAD.replace(b"Host: x\r\n", b"") + b"\r\n", (400,)),
    "two hosts": (HEAD + b"Host: y\r\n\r\n", (400,)),
    "a negative length": (sized(GOOD, "-1"), (400,)),
    "a length with a sign": (sized(GOOD, "+5"), (400,)),
    "a length of hexadecimal digits": (sized(GOOD, "0x10"), (400,)),
    "a huge length": (sized(GOOD, "9" * 30), (400, 413)),
    "two lengths": (
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + GOOD, (400,),
    ),
    "a length and chunks": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,),
    ),
    "another transfer encoding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + GOOD, (400, 501)),
    "a chunk size that is none": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + GOOD, (400,),
    ),
    "a negative chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", (400,)),
    "a chunk longer than it says": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n" + GOOD + b"\r\n0\r\n\r\n", (400,),
    ),
    "a huge chunk": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\nx\r\n", (400,),
    ),
    "9 MB in chunks": (chunked(*[b" " * 100_000] * 90), (413,)),
    "9 MB with their length": (sized(b" " * 9_000_000, "9000000"), (413,)),
    "a header of 70 kB": (HEAD + b"X-Long: " + LONG + b"\r\n\r\n", (431,)),
    "70 kB of headers": (HEAD + (b"X-Long: " + b"x" * 7_000 + b"\r\n") * 10 + b"\r\n", (431,)),
    "1,000 headers": (HEAD + b"X: y\r\n" * 1_000 + b"\r\n", (431,)),
    "a header without end": (HEAD + b"X-Long: " + LONG * 3, (431,)),
    "an address of 70 kB": (HEAD.replace(b"/predict", b"/" + LONG) + b"\r\n", (414,)),
    "10,000 parameters": (HEAD.replace(b"/predict", b"/predict?" + b"a=1&" * 10_000), (414,)),
    "an address without end": (b"POST /" + LONG * 3, (414,)),
    "a zero in a header": (HEAD + b"X-Zero: a\x00b\r\n\r\n", (400,)),
    "a bare carriage return in a header": (HEAD + b"X-Bare: a\rb\r\n\r\n", (400,)),
    "a space in a header's name": (HEAD + b"X Space: a\r\n\r\n", (400,)),
    "a folded header": (HEAD + b"X-Folded: a\r\n b\r\n\r\n", (400, 411, 415, 422)),
    "bytes beyond ASCII in the address": (HEAD.replace(b"flow", b"fl\xffow") + b"\r\n", (400, 422)),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", (400, 401, 404, 405)),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: x\r\n" + AUTH.encode() + b"\r\n", (400, 404, 405)),
    "an upgrade": (
        HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}", (400, 422),
    ),
    "a web socket": (
        b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        (200,),
    ),
    "a body that ends early": (sized(b'{"rows"', "500"), (400,)),
    "a body that never begins": (sized(b"", "500"), (400,)),
    "a good one behind a bad one": (b"\x00\x00" + sized(GOOD, str(len(GOOD))), (400,)),
}  # fmt: skip


def spoken(child: Child, data: bytes, *, is_ended: bool = True) -> bytes:
    """All that is answered to some bytes, until the other side closes."""
    with socket.create_connection(("127.0.0.1", child.settings.port), timeout=10) as line:
        line.sendall(data)
        if is_ended:
            line.shutdown(socket.SHUT_WR)
        return read_all(line)


def read_all(line: socket.socket) -> bytes:
    found = b""
    while piece := line.recv(65_536):
        found += piece
    return found


def statuses_in(answered: bytes) -> list[int]:
    return [int(part[:3]) for part in answered.split(b"HTTP/1.1 ")[1:]]


def is_a_problem(answered: bytes) -> bool:
    head, _, body = answered.partition(b"\r\n\r\n")
    return b"application/problem+json" in head and "code" in json.loads(body)


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_request_are_answered_with_a_problem(
    child: Child, caller: Caller, name: str
) -> None:
    data, expected = BYTES[name]

    answered = spoken(child, data)

    statuses = statuses_in(answered)
    assert len(statuses) == 1, answered[:300]
    assert statuses[0] in expected, answered[:300]
    assert statuses[0] == 200 or is_a_problem(answered), answered[:300]
    assert caller.ask().status == 200


def test_chunks_of_any_size_are_one_body(child: Child) -> None:
    pieces = [GOOD[at : at + 1] for at in range(len(GOOD))]

    answered = spoken(child, chunked(*pieces))

    assert statuses_in(answered) == [200]


def test_three_megabytes_in_pieces_of_six_bytes_are_cheap(child: Child) -> None:
    body = GOOD + b" " * 300_000
    data = chunked(*[body[at : at + 6] for at in range(0, len(body), 6)])
    started = time.monotonic()

    answered = spoken(child, data)

    assert statuses_in(answered) == [200]
    assert time.monotonic() - started < 5


def test_requests_in_one_go_are_answered_in_their_order(child: Child) -> None:
    good = sized(GOOD, str(len(GOOD)))

    answered = spoken(child, good * 3 + b"\x00\x01\x02")

    assert statuses_in(answered) == [200, 200, 200]


def asked(path: str, document: Any, *, more: bytes = b"") -> bytes:
    body = json.dumps(document).encode()
    head = HEAD.replace(f"{MODEL}/predict".encode(), path.encode())
    return head + more + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


ROW = [1.5, 3, 0.5]
TENSORS = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": ROW}]}
ROWS_NAMED = {"rows": [dict(zip(NAMES, ROW, strict=True))]}


def test_ways_and_protocols_in_one_go_are_answered_in_their_order(child: Child) -> None:
    """Also where the last one is large, and asks for the connection to be closed."""
    large = {"rows": [dict(zip(NAMES, (1.123456789, 3.5, 0.25), strict=True))] * 1_200}
    line = [
        asked(f"{MODEL}/predict", ROWS_NAMED),
        asked(f"{MODEL}/predict?explain=false", ROWS_NAMED),
        asked(f"{V2}/infer", TENSORS),
        asked(f"{MODEL}/predict", {"rows": [{"load": "x"}]}),
        asked(f"{MODEL}/invocations", {"inputs": [ROW]}),
        asked(f"{MODEL}/predict", {"rows": ROWS_NAMED["rows"] * 2}),
        asked(f"{MODEL}/predict", large, more=b"Connection: close\r\n"),
    ]

    answered = spoken(child, b"".join(line), is_ended=False)

    said = [part.partition(b"\r\n\r\n") for part in answered.split(b"HTTP/1.1 ")[1:]]
    bodies = [json.loads(body) for _, _, body in said]
    assert statuses_in(answered) == [200, 200, 200, 422, 200, 200, 200]
    assert [len(one.get("predictions", ())) for one in bodies] == [1, 1, 0, 0, 1, 2, 1_200]
    assert bodies[2]["outputs"][0]["name"] == "answer"
    assert b"connection: close" in said[-1][0]
    assert all(b"connection: close" not in head for head, _, _ in said[:-1])


def test_who_asked_before_a_broken_request_is_answered_first(child: Child) -> None:
    good = sized(GOOD, str(len(GOOD)))
    careful = asked(f"{MODEL}/predict?explain=false", ROWS_NAMED)
    broken = HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"

    answered = spoken(child, good + careful + good + broken, is_ended=False)

    assert statuses_in(answered) == [200, 200, 200, 400]
    assert "Traceback" not in child.log.read_text()


def test_requests_in_one_go_may_be_larger_together_than_one_head_may_be(child: Child) -> None:
    good = sized(GOOD, str(len(GOOD)))

    answered = spoken(child, good * 2_000)

    assert Counter(statuses_in(answered)) == {200: 2_000}


def test_a_head_without_end_behind_other_requests_is_too_large(child: Child) -> None:
    good = sized(GOOD, str(len(GOOD)))

    answered = spoken(child, good + HEAD + b"X: " + b"x" * 2_000_000, is_ended=False)

    assert statuses_in(answered)[:1] == [200]
    assert statuses_in(answered)[1:] in ([], [431])


@pytest.mark.parametrize("depth", [10_000, 40_000, 100_000])
def test_a_tensor_nested_without_end_is_a_problem_at_any_size(
    child: Child, caller: Caller, depth: int
) -> None:
    head, tail = json.dumps(TENSORS).encode().split(json.dumps(ROW).encode())
    body = head + b"[" * depth + b"]" * depth + tail

    answer = caller.send(Bad(name="deep", path=f"{V2}/infer", body=body))

    assert answer.status in (400, 422)
    assert answer.is_problem()
    assert answer.document["code"] != "malformed_http"
    assert caller.dropped == 0
    assert "Traceback" not in child.log.read_text()


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_wish_for_another_protocol_is_told_why_its_body_is_not_read(
    child: Child, protocol: str
) -> None:
    """As the client of Java asks unless told otherwise."""
    wish = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n".encode()
    without_body = b"GET /ready HTTP/1.1\r\nHost: x\r\n" + wish + b"\r\n"

    refused = spoken(child, HEAD + wish + b"Content-Length: 2\r\n\r\n{}", is_ended=False)
    answered = spoken(child, without_body, is_ended=False)

    assert statuses_in(refused) == [400]
    assert b"no_upgrade" in refused
    assert statuses_in(answered) == [200]
    assert b"connection: close" in answered


# --- slow and many ----------------------------------------------------------------------------


def slowly(child: Child, data: bytes, every_seconds: float) -> bytes:
    """Send byte by byte until the other side has enough of it."""
    with socket.create_connection(("127.0.0.1", child.settings.port), timeout=10) as line:
        line.settimeout(every_seconds)
        found = b""
        for at in range(len(data)):
            try:
                line.sendall(data[at : at + 1])
                piece = line.recv(65_536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not piece:
                break
            found += piece
        return found


@pytest.mark.parametrize(
    "data", [HEAD + b"X: y\r\n" * 500, sized(b" " * 5_000, "5000")], ids=["head", "body"]
)
def test_who_sends_too_slowly_is_told_so(child: Child, data: bytes) -> None:
    begun = data if data.startswith(HEAD + b"X") else data[-5_000:]
    answered = (
        slowly(child, data, 0.02) if begun is data else slow_body(child, data[: -len(begun)], begun)
    )

    assert statuses_in(answered) == [408]
    assert is_a_problem(answered)


def slow_body(child: Child, head: bytes, body: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", child.settings.port), timeout=10) as line:
        line.sendall(head)
        line.settimeout(0.02)
        for at in range(len(body)):
            try:
                line.sendall(body[at : at + 1])
                return line.recv(65_536)
            except TimeoutError:
                continue
        return b""


def test_many_slow_clients_and_idle_ones_keep_nobody_out(child: Child, caller: Caller) -> None:
    lines = [
        socket.create_connection(("127.0.0.1", child.settings.port), timeout=10) for _ in range(50)
    ]
    for number, line in enumerate(lines):
        line.sendall(HEAD[: number % 40])

    statuses = Counter(caller.ask().status for _ in range(200))
    closed = [read_all(line) for line in lines]

    assert statuses == {200: 200}
    assert {status for answered in closed for status in statuses_in(answered)} <= {400, 408}
    for line in lines:
        line.close()


def test_more_connections_than_allowed_are_refused_and_the_others_go_on(
    child: Child, caller: Caller
) -> None:
    caller.ask()
    lines = [
        socket.create_connection(("127.0.0.1", child.settings.port), timeout=10) for _ in range(70)
    ]

    answered = [read_all(line) for line in lines]
    for line in lines:
        line.close()

    refused = [one for one in answered if one]
    assert len(refused) >= 5
    assert {status for one in refused for status in statuses_in(one)} == {503}
    assert all(b"retry-after: 1" in one and is_a_problem(one) for one in refused)
    assert caller.ask().status == 200
    wait_until(lambda: is_let_in(child), what="the others to be gone")


def is_let_in(child: Child) -> bool:
    """Whether there is room for the connections of the next test."""
    with ExitStack() as open_ones:
        callers = [open_ones.enter_context(closing(Caller(child))) for _ in range(20)]
        return all(one.ask().status == 200 for one in callers)


def test_wrong_requests_at_the_same_time_disturb_no_good_one(child: Child, caller: Caller) -> None:
    bad = [one for one in every_bad_request() if len(one.body) < 100_000][::3]

    def send(some: Sequence[Bad]) -> Counter[str]:
        with closing(Caller(child)) as sender:
            faults = Counter(fault_of(one, sender.send(one)) or "" for one in some)
            return faults + Counter(dropped=sender.dropped)

    with ThreadPoolExecutor(8) as pool:
        sending = [pool.submit(send, bad[part::7]) for part in range(7)]
        good = Counter(caller.ask().status for _ in range(200))
        faults = sum((one.result() for one in sending), Counter[str]())

    assert set(faults) == {""}
    assert good == {200: 200}


def test_what_was_answered_is_in_the_spool_and_nothing_else(tmp_path: Path) -> None:
    with serving_alone(tmp_path, {}) as child, closing(Caller(child)) as caller:
        good = [caller.ask().status for _ in range(7)]
        for one in every_bad_request()[:200]:
            caller.send(one)
        tensors = Bad(name="", path=f"{V2}/infer", body=INFER["matrix"]("2").encode())
        good.append(caller.send(tensors).status)
        child.kill()

        spool = Spool(child.settings.data / "spool.db", cap_bytes=10**9, now=clock.now)
        while spool.seal(most_rows=100):
            pass

    assert good == [200] * 8
    assert sum(len(batch.rows) for batch in spool.batches(100)) == 8
    spool.close()


def a_forest() -> RandomForestRegressor:
    """Trees compare in single precision: what is too large for it makes them raise."""
    X = np.random.default_rng(7).normal(size=(200, len(NAMES)))
    return RandomForestRegressor(3, random_state=7).fit(X, X[:, 0])


ODD = tuple(f'{{"rows": [{{"load": {v}, "hour": 3, "lag": 0.5}}]}}' for v in ("1e300", "null"))


async def test_values_beyond_reason_send_no_version_to_rest(replica: Replica) -> None:
    store = ArtifactStore(replica.serving.settings.artifacts)
    await replica.want(a_desired(1, a_version(store, 1, estimator=a_forest())))

    odd = [await say(replica, f"{MODEL}/predict", text) for text in ODD * 10]
    answer = (await replica.answers())[0]

    assert {one.status_code for one in odd} == {200}
    assert (answer["version"], answer["rung"]) == (1, "champion")


async def test_values_beyond_reason_stop_no_challenger(replica: Replica) -> None:
    store = ArtifactStore(replica.serving.settings.artifacts)
    champion, challenger = a_version(store, 1), a_version(store, 2, estimator=a_forest())
    await replica.want(a_desired(1, champion, challenger=challenger, weight=1.0))

    for text in ODD * 10:
        await say(replica, f"{MODEL}/predict", text)
    answer = (await replica.answers())[0]

    assert (answer["version"], answer["arm"]) == (2, "challenger")


@pytest.mark.parametrize("path", [f"{MODEL}/versions/1/predict", f"{MODEL}/predict"])
async def test_where_nobody_can_answer_for_want_of_a_value_it_is_said_which(
    replica: Replica, path: str
) -> None:
    store = ArtifactStore(replica.serving.settings.artifacts)
    await replica.want(a_desired(1, a_version(store, 1), rule=None))

    answer = await say(replica, path, ODD[1])

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/rows/0/load"]


async def say(replica: Replica, path: str, text: str) -> httpx.Response:
    kind = {"content-type": "application/json"}
    return await replica.client.post(path, content=text.encode(), headers=kind)
