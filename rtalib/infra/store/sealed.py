"""JSON objects that carry a checksum of themselves, so that a changed digit is noticed where it is read."""

import hashlib
import json

CHECKSUM = "checksum"


def seal(facts: dict) -> str:
    """The text of a JSON object, with a last field `checksum` over all others."""
    return json.dumps(facts | {CHECKSUM: _checksum(facts)}, indent=1)


def unseal(text: str | bytes) -> dict:
    """The object without its checksum; ValueError if it is no JSON object, or no longer what was sealed.

    An object without a checksum is one of a version that wrote none. It is taken as it is.
    """
    try:
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise ValueError(f"expected a JSON object, got {type(facts).__name__}")
        whole = CHECKSUM not in facts or facts.pop(CHECKSUM) == _checksum(facts)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"no JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(f"nested too deep ({error})") from error
    if not whole:
        raise ValueError("its content has changed since it was written")
    return facts


def _checksum(facts: dict) -> str:
    """16 hex digits of the SHA-256 over the values in their order, whatever the white space between them."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
