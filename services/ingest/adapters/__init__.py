"""Where touchpoints come from beside the tracking API."""
