"""The errors that the services return, by code and HTTP status.

Source: the modelled errors of personalize-events and personalize-runtime in botocore, and "Common
Errors" in the Amazon Personalize API reference. Clients must distinguish errors by code: throttling
has the HTTP status 400 here, as in the service.
"""

from __future__ import annotations

from collections.abc import Mapping


class ServiceError(Exception):
    """An error response: the error code, its HTTP status and a message."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.injected = False  # by a fault plan: counted separately
        self.code = code
        self.message = message
        self.status = status


def invalid_input(message: str) -> ServiceError:
    """A request that will never be accepted as it is."""
    return ServiceError("InvalidInputException", message)


def malformed(message: str) -> ServiceError:
    """A body that is not the JSON that the model describes."""
    return ServiceError("SerializationException", message)


def not_found(message: str) -> ServiceError:
    """A resource that does not exist."""
    return ServiceError("ResourceNotFoundException", message, 404)


def in_use(message: str) -> ServiceError:
    """A resource that is being changed; the same call is accepted later."""
    return ServiceError("ResourceInUseException", message, 409)


def already_exists(message: str) -> ServiceError:
    """A resource with this name exists already."""
    return ServiceError("ResourceAlreadyExistsException", message)


def limit_exceeded(message: str) -> ServiceError:
    """More resources than the quota allows."""
    return ServiceError("LimitExceededException", message)


FAULTS: Mapping[str, tuple[str, str, int]] = {
    # HTTP 400, as in the service.
    "throttle": ("ThrottlingException", "Rate exceeded", 400),
    # Whether the call took effect is unknown.
    "error500": (
        "InternalFailure",
        "The request processing has failed because of an unknown error, exception or failure.",
        500,
    ),
    "error503": (
        "ServiceUnavailable",
        "The request has failed due to a temporary failure of the server.",
        503,
    ),
    "in_use": ("ResourceInUseException", "The specified resource is in use.", 409),
    "unrecognized_client": (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        403,
    ),
    "expired_token": (
        "ExpiredTokenException",
        "The security token included in the request is expired",
        403,
    ),
}
"""Errors without details of the call, by the kind of fault that injects them."""


def unknown_operation(method: str, path: str) -> ServiceError:
    """A method and path without an operation."""
    return ServiceError("UnknownOperationException", f"No operation answers {method} {path}.", 404)


def incomplete_signature(message: str) -> ServiceError:
    """An Authorization header that is not a complete Signature Version 4."""
    return ServiceError("IncompleteSignatureException", message, 403)


def invalid_signature(message: str) -> ServiceError:
    """A signature that does not match the secret of the access key, or has expired."""
    return ServiceError("InvalidSignatureException", message, 403)


def access_denied(operation: str, access_key: str) -> ServiceError:
    """A known access key without the permission for this operation."""
    return ServiceError(
        "AccessDeniedException",
        f"User with access key {access_key} is not authorized to perform: personalize:{operation}",
        403,
    )
