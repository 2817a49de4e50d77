"""Settings of PostgreSQL: sized by the machine, and compared with those of a server elsewhere."""

import pytest

from cli.servers.postgres_settings import GIGABYTE, list_cures, recommended_settings

RECOMMENDED = {
    "shared_buffers": (2 * GIGABYTE, "262144"),
    "max_wal_size": (8 * GIGABYTE, "8192"),
    "checkpoint_timeout": (1_800.0, "1800"),
    "wal_compression": (None, "lz4"),
    "fsync": (None, "on"),
    "full_page_writes": (None, "on"),
    "synchronous_commit": (None, "on"),
}


@pytest.mark.parametrize(
    ("memory", "buffers"),
    [(256 << 20, "128MB"), (8 * GIGABYTE, "2048MB"), (256 * GIGABYTE, "8192MB")],
)
def test_buffers_are_a_bounded_quarter_of_memory(memory, buffers):
    settings = recommended_settings(memory, 100 * GIGABYTE, has_lz4=True)

    assert settings["shared_buffers"] == buffers


@pytest.mark.parametrize(
    ("free_disk", "wal"),
    [(GIGABYTE, "1024MB"), (40 * GIGABYTE, "4096MB"), (1_000 * GIGABYTE, "8192MB")],
)
def test_log_takes_a_tenth_of_the_disk(free_disk, wal):
    settings = recommended_settings(8 * GIGABYTE, free_disk, has_lz4=True)

    assert settings["max_wal_size"] == wal


@pytest.mark.parametrize(("has_lz4", "compression"), [(True, "lz4"), (False, "off")])
def test_page_images_are_never_compressed_by_pglz(has_lz4, compression):
    settings = recommended_settings(8 * GIGABYTE, 100 * GIGABYTE, has_lz4=has_lz4)

    assert settings["wal_compression"] == compression


def test_recommended_settings_need_no_cure():
    assert list_cures(RECOMMENDED) == []


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("shared_buffers", (128 << 20, "16384"), "quarter"),
        ("max_wal_size", (GIGABYTE, "1024"), "8GB"),
        ("checkpoint_timeout", (300.0, "300"), "30min"),
        ("wal_compression", (None, "pglz"), "lz4"),
        ("wal_compression", (None, "on"), "lz4"),
        ("fsync", (None, "off"), "loses touchpoints"),
        ("full_page_writes", (None, "off"), "destroy pages"),
        ("synchronous_commit", (None, "local"), "loses touchpoints"),
        ("synchronous_commit", (None, "off"), "loses touchpoints"),
    ],
)
def test_unfit_settings_are_named_with_their_cure(name, value, cure):
    cures = list_cures({**RECOMMENDED, name: value})

    assert len(cures) == 1
    assert cure in cures[0]
