"""aiokafka's connections on uvloop.

A write to a connection whose other end has just gone raises OSError on asyncio's own loop or nothing at all, and RuntimeError
("the handler is closed") on uvloop, which aiokafka (0.14) does not expect. The task that keeps the metadata of a client
then ended, and whoever waited for metadata waited for ever: a consumer stood still for 76 s after Kafka had been killed in the
wrong moment.
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def _sent(connection: Any, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(
            f"the connection to {connection.host}:{connection.port} broke: {error}"
        ) from error


def patch_connection_errors() -> None:
    """Let every connection of this process say that it is broken by the error that aiokafka expects."""
    AIOKafkaConnection.send = _sent
