"""References to secrets in the values of properties, resolved where they are used.

``${secret:ARN}`` stands for the text of a secret of AWS Secrets Manager, ``${secret:ARN#KEY}`` for
a member of it, which is a JSON object. So a property group, a job and its reports have the
reference, and never the secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from connectors.aws.sdk import sdk_client, service_errors
from schemas.errors import TunemeshError

_REFERENCE: Final = re.compile(r"\$\{secret:([^}#]*)(?:#([^}]*))?\}")
_ARN: Final = re.compile(r"arn:[a-z0-9-]+:secretsmanager:([a-z0-9-]+):\d{12}:secret:[^:]+")


class SecretError(TunemeshError):
    """A reference to a secret is malformed, or the secret has no such member."""


def resolve_secrets(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties with what their references stand for; without any, no call is made.

    Raises SecretError and ServiceUnavailable, which name the reference and not the secret.
    """
    texts: dict[str, str] = {}
    return {
        name: _REFERENCE.sub(partial(_value, name, texts), value)
        if isinstance(value, str)
        else value
        for name, value in properties.items()
    }


def _value(name: str, texts: dict[str, str], reference: re.Match[str]) -> str:
    arn, key = reference[1], reference[2]
    matched = _ARN.fullmatch(arn)
    if matched is None:
        raise SecretError(
            f"{name} refers to {arn!r}, which is no ARN of a secret; expected"
            " ${secret:arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME} or ...NAME#KEY}"
        )
    if arn not in texts:
        advice = "The role of this process needs secretsmanager:GetSecretValue."
        with service_errors(f"read the secret {arn} for {name}", advice):
            answer = sdk_client("secretsmanager", matched[1]).get_secret_value(SecretId=arn)
        texts[arn] = answer.get("SecretString", "")
    if key is None:
        return texts[arn]
    try:
        member = json.loads(texts[arn])[key]
    except (ValueError, KeyError, TypeError):
        member = None
    if not isinstance(member, str):
        raise SecretError(f"{name}: the secret {arn} is no JSON object with a text {key!r}")
    return member
