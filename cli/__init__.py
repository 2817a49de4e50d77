"""The `perigee` command: runs an instance, and operates it through the admin APIs."""
