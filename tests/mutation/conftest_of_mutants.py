"""Replaces tests/conftest.py while mutants are tested: no servers, the same examples each time.

Hypothesis neither shrinks nor explains: a mutant that fails once is killed.
"""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutants")
