"""A record as JSON text, for destinations of documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from connectors.delivery import Rejected

# One encoder for all: json.dumps with arguments builds a new one each time.
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_line(document: Mapping[str, Any]) -> bytes | Rejected:
    """The document as one line of UTF-8 without its end, or why it has no JSON text.

    JSON escapes line ends within texts, so a line is a document. The message of a rejection holds
    no value of the record.
    """
    try:
        return _encode(document).encode()
    except UnicodeEncodeError:
        return Rejected("InvalidDocument", "a text is not valid Unicode: it has a lone surrogate")
    except ValueError:
        return Rejected("InvalidDocument", "a number is not finite: JSON has no such numbers")
    except TypeError as error:
        return Rejected("InvalidDocument", f"not JSON: {error}")
