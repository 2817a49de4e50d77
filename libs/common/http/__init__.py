"""HTTP parts that all services share: authentication, problem details, CORS, write keys."""
