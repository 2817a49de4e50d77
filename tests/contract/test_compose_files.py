"""The compose files mount files of the project that exist."""

import pytest
import yaml

from cli.home import PROJECT

FILES = ("docker-compose.yml", "tests/compose/receiver.yaml")


def mounted_paths(file):
    services = yaml.safe_load((PROJECT / file).read_text())["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                yield source


@pytest.mark.parametrize("file", FILES)
def test_mounted_files_exist(file):
    paths = list(mounted_paths(file))

    assert paths
    assert [path for path in paths if not (PROJECT / path).exists()] == []
