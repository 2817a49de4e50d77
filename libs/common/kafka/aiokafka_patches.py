"""Patch of aiokafka's connections for uvloop.

A write to a connection that the broker has just closed raises OSError or nothing on asyncio's loop,
and RuntimeError ("the handler is closed") on uvloop, which aiokafka (0.14) does not expect. Its
metadata task then ended and all waits for metadata blocked: a consumer stood still for 76 s after
Kafka had been killed at the wrong moment.
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_original_send = AIOKafkaConnection.send


def _send(connection: Any, request: Any, expect_response: bool = True) -> Any:
    try:
        return _original_send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(
            f"the connection to {connection.host}:{connection.port} broke: {error}"
        ) from error


def patch_connection_errors() -> None:
    """Make connections of this process report a broken write with the error aiokafka expects."""
    AIOKafkaConnection.send = _send
