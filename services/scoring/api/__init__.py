"""HTTP APIs of scoring: `/v1` with a service key, `/admin/v1` for operators with the admin key."""
