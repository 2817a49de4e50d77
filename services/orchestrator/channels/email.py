"""E-mail over SMTP, through a small pool of persistent connections.

`List-Unsubscribe` and `List-Unsubscribe-Post` follow RFC 8058. `Message-ID` is the action's id, so
that a provider or a reader can recognise a repeat. A connection that drops after the body was begun
leaves the outcome unknown.
"""

import asyncio
import re
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib

from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage

# Plain ASCII addresses only: servers without SMTPUTF8 accept them, and none can smuggle in a second
# address.
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?"
)
_NO_SUCH_ADDRESS = re.compile(r"5\.1\.(1|2|3|6|10)\b")
CONNECTIONS = 4


class EmailChannel:
    """Channel that sends mails through one SMTP server. SMTP servers do not drop repeats."""

    idempotent = False

    def __init__(self, smtp_url: str, sender: str, connections: int = CONNECTIONS) -> None:
        self._sender = sender
        server = urlsplit(smtp_url)
        self._idle = [_SmtpConnection(server, parseaddr(sender)[1]) for _ in range(connections)]
        self._connections = tuple(self._idle)
        self._limit = asyncio.Semaphore(connections)

    async def send(self, message: RenderedMessage) -> DeliveryResult:
        """Send one mail."""
        try:
            body = build_email(message, self._sender).as_bytes()
        except Exception as error:  # noqa: BLE001
            return DeliveryResult("refused", f"not a valid mail: {error}")
        async with self._limit:
            connection = self._idle.pop()
            try:
                return await connection.send(message.address, body)
            finally:
                self._idle.append(connection)

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.drop()


class _SmtpConnection:
    """One connection, opened on first use and reopened after a fault."""

    def __init__(self, server: SplitResult, sender: str) -> None:
        self._server = server
        self._sender = sender
        self._client: aiosmtplib.SMTP | None = None

    async def send(self, address: str, body: bytes) -> DeliveryResult:
        """Send one mail."""
        try:
            client = await self._ensure_connected()
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            return DeliveryResult("again", f"no connection: {type(error).__name__}")
        try:
            await client.mail(self._sender)
            await client.rcpt(address)
        except aiosmtplib.SMTPSenderRefused as error:
            await self._reset(client)
            # The sender address is our own configuration, so the mail is retried.
            return DeliveryResult("again", f"the server answered {error.code} to the sender")
        except aiosmtplib.SMTPResponseException as error:
            await self._reset(client)
            return _result_from_reply(error)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            self.drop()
            return DeliveryResult("again", f"before the body: {type(error).__name__}")
        try:
            await client.data(body)
        except aiosmtplib.SMTPResponseException as error:
            await self._reset(client)
            return _result_from_reply(error)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            self.drop()
            return DeliveryResult(
                "unknown", f"the connection ended within the body: {type(error).__name__}"
            )
        return DeliveryResult("delivered", "accepted by the server")

    async def _ensure_connected(self) -> aiosmtplib.SMTP:
        if self._client is not None and self._client.is_connected:
            return self._client
        client = aiosmtplib.SMTP(
            hostname=self._server.hostname or "127.0.0.1",
            port=self._server.port or 25,
            use_tls=self._server.scheme == "smtps",
            timeout=15,
        )
        await client.connect()
        if self._server.username:
            await client.login(unquote(self._server.username), unquote(self._server.password or ""))
        else:
            await client.ehlo()
        self._client = client
        return client

    async def _reset(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.rset()
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            self.drop()

    def drop(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def build_email(message: RenderedMessage, sender: str) -> EmailMessage:
    """Return the mail.

    Raises ValueError for an address or a header that could smuggle in another one.
    """
    if not _ADDRESS.fullmatch(message.address):
        raise ValueError("not one plain address")
    email = EmailMessage()
    email["From"] = sender
    email["To"] = message.address
    email["Subject"] = message.subject
    email["Date"] = formatdate(usegmt=True)
    email["Message-ID"] = f"<{message.action_id}@perigee>"
    email["List-Unsubscribe"] = f"<{message.unsubscribe_url}>"
    email["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    email.set_content(message.text)
    if message.html is not None:
        email.add_alternative(message.html, subtype="html")
    return email


def _result_from_reply(error: aiosmtplib.SMTPResponseException) -> DeliveryResult:
    again = 400 <= error.code < 500
    # RFC 3463: 5.1.x is about the address; .1, .2, .3, .6 and .10 report that it does not exist.
    no_such_address = not again and _NO_SUCH_ADDRESS.match(error.message) is not None
    return DeliveryResult(
        "again" if again else "refused", f"the server answered {error.code}", gone=no_such_address
    )
