"""What can go wrong for a caller: what, why, how to mend it, and the id to ask about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidewheel.exits import Exit

_BY_STATUS: Mapping[int, Exit] = {
    401: Exit.NOT_PERMITTED,
    403: Exit.NOT_PERMITTED,
    429: Exit.TEMPORARY,
    503: Exit.TEMPORARY,
}
_REASONS_SHOWN = 8
_FIXES: Mapping[int, str] = {
    401: "set TIDEWHEEL_KEY, or the key in the context file, to one that is known",
    403: "use a key with one of these roles",
    429: "wait a little and repeat it",
    503: "repeat it; nothing was changed",
}
_LISTS: Mapping[str, str] = {
    "/v1/datasets": "`tidewheel datasets` lists what there is",
    "/v1/models": "`tidewheel models` lists what there is",
    "/v1/brakes": "`tidewheel brakes` lists those that are set",
    "/v1/freezes": "`tidewheel freezes` lists those that are declared",
}
"""What shows the right names, by where the wrong one was."""


@dataclass(slots=True)
class Failure(Exception):
    """A call that did not do what was asked.

    Attributes:
        what: one line.
        why: one line, or one per reason.
        fix: what to do now.
        request_id: under which the service's log has the details.
        status, code: of the answer, when there was one.
        retry_after: seconds that the service asked to wait.
    """

    what: str
    why: tuple[str, ...] = ()
    fix: str = ""
    exit_code: Exit = Exit.INPUT
    request_id: str = ""
    status: int = 0
    code: str = ""
    retry_after: float | None = None

    def __str__(self) -> str:
        return "; ".join(part for part in (self.what, *self.why) if part)

    def lines(self) -> list[str]:
        """For people: at most four lines."""
        found = [f"error: {self.what}"]
        found += [f"  why: {_in_one_line(self.why)}"] if self.why else []
        found += [f"  fix: {self.fix}"] if self.fix else []
        return found + ([f"  request id: {self.request_id}"] if self.request_id else [])

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "error": self.what,
            "why": list(self.why),
            "fix": self.fix,
            "code": self.code,
            "status": self.status,
            "request_id": self.request_id,
            "exit_code": int(self.exit_code),
        }


def of_answer(
    what: str, status: int, problem: Mapping[str, Any], headers: Mapping[str, str]
) -> Failure:
    """The failure that an error answer means."""
    faults: Sequence[Mapping[str, Any]] = problem.get("errors") or ()
    hints = [str(fault["hint"]) for fault in faults if fault.get("hint")]
    code = str(problem.get("code", ""))
    return Failure(
        what,
        why=(str(problem.get("detail") or f"status {status}"), *map(_sentence, faults)),
        fix="; ".join(dict.fromkeys(hints)) or _fix(status, code, str(problem.get("instance", ""))),
        exit_code=_exit_of(status),
        request_id=str(problem.get("request_id") or headers.get("x-request-id", "")),
        status=status,
        code=code,
        retry_after=_seconds(headers.get("retry-after")),
    )


def _fix(status: int, code: str, path: str) -> str:
    """Another key helps where a role is missing, not where it is one's own work."""
    if status == 403 and code not in ("", "not_permitted"):
        return ""
    if status == 404:
        return next((fix for start, fix in _LISTS.items() if path.startswith(start)), "")
    return _FIXES.get(status, "")


def unreachable(what: str, service: str, url: str, cause: str) -> Failure:
    """No answer at all."""
    return Failure(
        what,
        why=(f"{service} does not answer at {url} ({cause or 'no reason given'})",),
        fix="start the system with `make up`, or name another with TIDEWHEEL_CONTEXT",
        exit_code=Exit.UNAVAILABLE,
    )


def plainly(error: OSError) -> str:
    """What the system says of a file, without numbers and quotes."""
    said = (error.strerror or str(error)).lower()
    return "there is no such file" if isinstance(error, FileNotFoundError) else said


def _in_one_line(why: Sequence[str]) -> str:
    """The first reason is a sentence over the others; of very many the first say enough."""
    head, *others = why
    more = len(others) - _REASONS_SHOWN
    shown = [
        *others[:_REASONS_SHOWN],
        *([f"and {more} more (--json has them)"] if more > 0 else []),
    ]
    return f"{head}{' ' if head.endswith('.') else '; '}{'; '.join(shown)}" if shown else head


def _sentence(fault: Mapping[str, Any]) -> str:
    return f"{fault.get('pointer', '')}: {fault.get('detail', '')}".lstrip(": ")


def _exit_of(status: int) -> Exit:
    return _BY_STATUS.get(status, Exit.BUG if status >= 500 else Exit.INPUT)


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
