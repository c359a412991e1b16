"""Answers of the coordinator that refuse a request, as errors."""

import httpx

from searcher.errors import DroppedError, LedgerError, ProtocolError, UserError

_WITHOUT_TEXT = {
    401: "The coordinator does not know this token, or it was revoked. Ask its operator for one.",
    403: "The role of this token may not do this. Ask the operator of the coordinator.",
}


def checked(answer: httpx.Response) -> httpx.Response:
    """``answer`` if its status is 2xx. Raises the errors that ``CoordinatorClient`` lists."""
    if answer.is_success:
        return answer
    dropped = None
    try:
        refusal = answer.json()
        message, dropped = str(refusal["error"]), refusal.get("sha256")
    except (ValueError, KeyError, TypeError):
        # The answer to a HEAD request has no body.
        message = _WITHOUT_TEXT.get(
            answer.status_code, f"The coordinator answered {answer.status_code} without a reason.")
    if answer.status_code in (503, 507):
        raise LedgerError(message)
    if answer.status_code in (400, 401, 403, 404):
        raise UserError(message)
    if answer.status_code == 410 and isinstance(dropped, str):
        raise DroppedError(dropped, message)
    raise ProtocolError(message, answer.status_code)
