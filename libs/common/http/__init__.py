"""HTTP parts that all services share: app factory, authentication, problem details, CORS."""
