"""How errors are called on the paths of protocols that others defined, beside our own problem.

The Open Inference Protocol has `{"error": …}`, the scoring of MLflow `{"error_code", "message"}`.
Both take further members, so one body serves their clients and ours.
"""

from collections.abc import Sequence
from typing import Final

from shared.errors import Fault

_TOLD: Final = 3
_MLFLOW_CODES: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "ENDPOINT_NOT_FOUND",
    409: "RESOURCE_CONFLICT",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


def members_for(path: str, status: int, detail: str, faults: Sequence[Fault]) -> dict[str, str]:
    """What a problem says besides on such a path; nothing on ours."""
    if path == "/v2" or path.startswith("/v2/"):
        return {"error": _sentence(detail, faults)}
    if path.endswith("/invocations"):
        code = _MLFLOW_CODES.get(status, "BAD_REQUEST")
        return {"error_code": code, "message": _sentence(detail, faults)}
    return {}


def _sentence(detail: str, faults: Sequence[Fault]) -> str:
    """Both protocols have one sentence only: it names the first places."""
    places = [f"{fault.pointer or 'the body'}: {fault.detail}" for fault in faults[:_TOLD]]
    more = [f"and {len(faults) - _TOLD} more"] if len(faults) > _TOLD else []
    return " ".join([detail, "; ".join(places + more)]).strip()
