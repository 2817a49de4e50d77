"""Standard Webhooks: signatures, allowed addresses, the HTTP client."""
