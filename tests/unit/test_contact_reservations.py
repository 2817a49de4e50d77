"""Reservations of contacts: batches that share one go one after another, others side by side."""

import asyncio

from services.scoring.handlers.contact_reservations import ContactReservations


async def test_batches_without_common_contacts_go_together():
    reservations = ContactReservations()

    with reservations.batch() as first, reservations.batch() as second:
        await first.reserve(["a", "b"])
        await asyncio.wait_for(second.reserve(["c"]), 1)

    assert reservations.held == []


async def test_batch_waits_for_the_one_it_meets():
    reservations, order = ContactReservations(), []

    async def handle(name, contacts):
        with reservations.batch() as batch:
            await batch.reserve(contacts)
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(handle("first", ["a", "b"]), handle("second", ["b", "c"]))

    assert order == ["first begins", "first ends", "second begins", "second ends"]


async def test_failed_batch_releases_its_contacts():
    reservations = ContactReservations()

    try:
        with reservations.batch() as failing:
            await failing.reserve(["a"])
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass

    with reservations.batch() as batch:
        await asyncio.wait_for(batch.reserve(["a"]), 1)


async def test_new_reservation_releases_the_last_one():
    reservations = ContactReservations()

    with reservations.batch() as first, reservations.batch() as second:
        await first.reserve(["a"])
        await first.reserve(["b"])
        await asyncio.wait_for(second.reserve(["a"]), 1)

    assert reservations.held == []
