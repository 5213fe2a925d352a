"""What the plain ASGI doors of serving have alike.

Per request a plain door reads the body once, and neither builds a request object nor validates
through pydantic, which would cost more than most models.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from services.serving.domain.bindings import Wanted, wanted_version
from services.serving.handlers.admission import Admission
from services.serving.handlers.predictions import Predictions
from shared.access import Principal, Role
from shared.errors import NotPermitted, Refused
from shared.events import ModelName
from shared.http import Allowed, allow, problem_of

MAY_PREDICT: Final = allow(Role.PREDICTOR)
Headers = list[tuple[bytes, bytes]]
JSON: Final[Headers] = [(b"content-type", b"application/json")]


class MediaTypeNotAccepted(Refused):
    """The body is in another form than JSON."""

    status = 415
    code = "media_type_not_accepted"


class Gone(Refused):
    """The client left in the middle of its request."""

    code = "client_left"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with status 200."""

    body: bytes
    headers: Headers = field(default_factory=lambda: JSON)


@dataclass(frozen=True)
class PlainDoor(ABC):
    """A door for predictions; each kind says how it answers."""

    predictions: Predictions
    rows_limit: int
    admission: Admission
    allowed: Allowed = field(default=MAY_PREDICT, kw_only=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        place = _Place(self.admission, receive)
        try:
            principal: Principal = scope["state"]["principal"]
            if not principal.may(self.allowed.roles):
                raise NotPermitted("This needs the role predictor.")
            if "is_counted" not in scope["state"]:
                self.admission.check(principal)
            reply = await self.answer(scope, place.receive)
        except Refused as error:
            refusal = problem_of(error, scope["state"]["request_id"], scope["path"])
            await refusal(scope, receive, send)
            return
        finally:
            place.leave()
        headers = [*reply.headers, (b"content-length", str(len(reply.body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    @abstractmethod
    async def answer(self, scope: Scope, receive: Receive) -> Reply:
        """The answer to one request of a principal that holds the role somewhere.

        Raises:
            Refused: there is none, and why.
        """

    def permitted(self, scope: Scope) -> ModelName:
        """The model that a path names; its team has let the principal in, or nobody knows it.

        Raises:
            NotFound: it is another team's.
            NotPermitted: it may be seen and no more.
        """
        principal: Principal = scope["state"]["principal"]
        model = ModelName(scope["path_params"]["model"])
        self.predictions.check(principal, model, self.allowed.roles)
        return model


@dataclass(slots=True)
class _Place:
    """A request among those that wait, from the end of its body to its answer.

    A body that comes slowly takes no place: it is limited elsewhere, and holds up nobody.
    """

    admission: Admission
    source: Receive
    size: int = 0
    is_taken: bool = False

    async def receive(self) -> Message:
        """What comes; with the end of the body a place is taken.

        Raises:
            Saturated: there is none.
        """
        message = await self.source()
        self.size += len(message.get("body", b""))
        is_whole = message["type"] == "http.request" and not message.get("more_body")
        if is_whole and not self.is_taken:
            self.admission.enter(self.size)
            self.is_taken = True
        return message

    def leave(self) -> None:
        """The request is answered, or was refused."""
        if self.is_taken:
            self.admission.leave(self.size)


def drawn_ids(scope: Scope) -> Sequence[str]:
    """The ids of the rows, where the quick way has drawn them."""
    found: Sequence[str] = scope["state"].get("ids", ())
    return found


def wanted_in(scope: Scope) -> Wanted | None:
    """The version or the alias that a path names."""
    named = scope["path_params"]
    if "version" in named:
        return wanted_version(named["version"])
    alias: str | None = named.get("alias")
    return alias


def header_of(scope: Scope, name: bytes) -> str:
    """What a header says, empty without it; the last one counts."""
    found = ""
    for given, value in scope["headers"]:
        if given == name:
            found = value.decode("latin-1")
    return found


def check_media_type(scope: Scope) -> None:
    """Only JSON in UTF-8, not compressed.

    Raises:
        MediaTypeNotAccepted: it is something else.
    """
    kind = header_of(scope, b"content-type")
    if kind != "application/json" and not is_utf8(kind, "application/json"):
        raise MediaTypeNotAccepted("Send JSON in UTF-8, with `Content-Type: application/json`.")
    check_encoding(scope)


def is_utf8(kind: str, wanted: str) -> bool:
    """Whether a content type is the wanted one, in no other charset and of no special form."""
    plain, _, parameters = kind.partition(";")
    named = parameters.replace(" ", "").replace('"', "").lower()
    return plain.strip().lower() == wanted and named in ("", "charset=utf-8")


def check_encoding(scope: Scope) -> None:
    """Only bodies as they are.

    Raises:
        MediaTypeNotAccepted: it is compressed.
    """
    if header_of(scope, b"content-encoding").strip().lower() not in ("", "identity"):
        raise MediaTypeNotAccepted("Compressed bodies are not taken; send it as it is.")


async def read_body(receive: Receive) -> bytes:
    """The whole body; its size is limited further out.

    Raises:
        Gone: the client left before its end.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone("The client left in the middle of the body.")
        body += message.get("body", b"")
    return body
