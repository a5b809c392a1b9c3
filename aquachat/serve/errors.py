"""What a client is told when its request cannot be served: OpenAI's form of an error."""

from __future__ import annotations

from typing import Any

from aquachat.errors import AquachatError


class ApiError(AquachatError):
    """A refusal with an HTTP status.

    Example:
        ApiError(400, "`temperature` is 3, at most 2 is allowed", parameter="temperature")
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "invalid_value",
        parameter: str | None = None,
        retry_after_s: int | None = None,
        allowed_methods: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.parameter = parameter
        self.retry_after_s = retry_after_s
        self.allowed_methods = allowed_methods

    def to_json(self) -> dict[str, Any]:
        """The body, as OpenAI's clients read it."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error")
        return {
            "error": {
                "message": self.message,
                "type": "server_error" if self.status >= 500 else kind,
                "param": self.parameter,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """What the status asks for beside the body."""
        found = {}
        if self.retry_after_s is not None:
            found["retry-after"] = str(self.retry_after_s)
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        if self.allowed_methods is not None:
            found["allow"] = self.allowed_methods
        return found
