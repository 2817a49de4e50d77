"""User hash: proof that a user id from a browser comes from the site.

The hash is the HMAC-SHA256 of the user id under a secret that the site's server keeps.
"""

import hmac
from hashlib import sha256


def verify_user_hash(secret: str, user_id: str, given: object) -> bool:
    """Return whether `given` is the HMAC-SHA256 of the user id under the secret, in hexadecimal."""
    expected = hmac.new(
        secret.encode(), user_id.encode("utf-8", "surrogatepass"), sha256
    ).hexdigest()
    return isinstance(given, str) and hmac.compare_digest(
        given.encode("utf-8", "replace"), expected.encode()
    )
