"""The errors that the service answers, by code and HTTP status.

Source: the modelled errors of personalize-events and personalize-runtime in botocore, and "Common
Errors" in the Amazon Personalize API reference. Clients must tell errors apart by code: throttling
is an HTTP 400 here, as it is there.
"""

from __future__ import annotations


class ServiceError(Exception):
    """An answer other than 200: the error code, its HTTP status, and a message for people."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.injected = False  # by a fault plan; only the counts differ
        self.code = code
        self.status = status
        self.message = message


def invalid_input(message: str) -> ServiceError:
    """A request that will never be accepted as it is."""
    return ServiceError("InvalidInputException", 400, message)


def malformed(message: str) -> ServiceError:
    """A body that is not the JSON that the model describes."""
    return ServiceError("SerializationException", 400, message)


def not_found(message: str) -> ServiceError:
    """A resource that does not exist."""
    return ServiceError("ResourceNotFoundException", 404, message)


def in_use(message: str = "The specified resource is in use.") -> ServiceError:
    """A resource that is being changed; the same call is accepted later."""
    return ServiceError("ResourceInUseException", 409, message)


def already_exists(message: str) -> ServiceError:
    """A resource with this name is there."""
    return ServiceError("ResourceAlreadyExistsException", 400, message)


def limit_exceeded(message: str) -> ServiceError:
    """More resources than the quota allows; fewer are needed first."""
    return ServiceError("LimitExceededException", 400, message)


def invalid_next_token() -> ServiceError:
    """A `nextToken` that no list has answered."""
    return ServiceError("InvalidNextTokenException", 400, "The next token is not valid.")


def throttled() -> ServiceError:
    """More calls than the quota allows. HTTP 400, as the service does."""
    return ServiceError("ThrottlingException", 400, "Rate exceeded")


def internal_failure() -> ServiceError:
    """The service failed; whether the call took effect is unknown."""
    return ServiceError(
        "InternalFailure",
        500,
        "The request processing has failed because of an unknown error, exception or failure.",
    )


def unavailable() -> ServiceError:
    """The service is down for a moment."""
    return ServiceError(
        "ServiceUnavailable",
        503,
        "The request has failed due to a temporary failure of the server.",
    )


def unknown_operation(method: str, path: str) -> ServiceError:
    """A method and path that no operation has."""
    return ServiceError("UnknownOperationException", 404, f"No operation answers {method} {path}.")


def too_large(limit: int) -> ServiceError:
    """A body above what any valid request can have."""
    return ServiceError("RequestEntityTooLarge", 413, f"The body is larger than {limit} bytes.")


def missing_token() -> ServiceError:
    """A request without a signature."""
    return ServiceError("MissingAuthenticationTokenException", 403, "Missing Authentication Token")


def incomplete_signature(message: str) -> ServiceError:
    """An Authorization header that is not a complete Signature Version 4."""
    return ServiceError("IncompleteSignatureException", 403, message)


def unrecognized_client() -> ServiceError:
    """An access key that does not exist."""
    return ServiceError(
        "UnrecognizedClientException",
        403,
        "The security token included in the request is invalid.",
    )


def invalid_signature(message: str) -> ServiceError:
    """A signature that the secret of this access key does not give, or one that is too old."""
    return ServiceError("InvalidSignatureException", 403, message)


def expired_token() -> ServiceError:
    """Temporary credentials past their end."""
    return ServiceError(
        "ExpiredTokenException", 403, "The security token included in the request is expired"
    )


def access_denied(operation: str, access_key: str) -> ServiceError:
    """A known access key without the permission for this operation."""
    return ServiceError(
        "AccessDeniedException",
        403,
        f"User with access key {access_key} is not authorized to perform: personalize:{operation}",
    )
