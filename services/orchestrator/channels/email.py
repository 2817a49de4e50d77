"""E-mail over SMTP, over a few connections that are kept.

`List-Unsubscribe` and `List-Unsubscribe-Post` as RFC 8058 has them. `Message-ID` is the action's id, so that a provider
or a reader can tell a repeat. A connection that drops once the body was under way leaves the outcome unknown.
"""

import asyncio
import re
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib

from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage

# Plain ASCII addresses only: what a server without SMTPUTF8 takes, and nothing that could be a second address.
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?"
)
_NO_SUCH_ADDRESS = re.compile(r"5\.1\.(1|2|3|6|10)\b")
CONNECTIONS = 4


class EmailChannel:
    """Sends letters through one SMTP server. No server knows a mail that it has taken already."""

    idempotent = False

    def __init__(self, smtp_url: str, sender: str, connections: int = CONNECTIONS) -> None:
        self._sender = sender
        where = urlsplit(smtp_url)
        self._free = [_Line(where, parseaddr(sender)[1]) for _ in range(connections)]
        self._lines = tuple(self._free)
        self._gate = asyncio.Semaphore(connections)

    async def send(self, letter: RenderedMessage) -> DeliveryResult:
        """Send one letter."""
        try:
            message = build_email(letter, self._sender)
            body = message.as_bytes()
        except Exception as error:  # noqa: BLE001
            return DeliveryResult("refused", f"not a valid mail: {error}")
        async with self._gate:
            line = self._free.pop()
            try:
                return await line.send(letter.address, body)
            finally:
                self._free.append(line)

    async def close(self) -> None:
        """Close the connections."""
        for line in self._lines:
            line.drop()


class _Line:
    """One connection, opened when it is needed."""

    def __init__(self, where: SplitResult, sender: str) -> None:
        self._where = where
        self._sender = sender
        self._client: aiosmtplib.SMTP | None = None

    async def send(self, address: str, body: bytes) -> DeliveryResult:
        """Send one mail."""
        try:
            client = await self._connected()
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            return DeliveryResult("again", f"no connection: {type(error).__name__}")
        try:
            await client.mail(self._sender)
            await client.rcpt(address)
        except aiosmtplib.SMTPSenderRefused as error:
            await self._reset(client)
            return DeliveryResult(
                "again", f"the server answered {error.code} to the sender"
            )  # which is ours to mend
        except aiosmtplib.SMTPResponseException as error:
            await self._reset(client)
            return _answered(error)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            self.drop()
            return DeliveryResult("again", f"before the body: {type(error).__name__}")
        try:
            await client.data(body)
        except aiosmtplib.SMTPResponseException as error:
            await self._reset(client)
            return _answered(error)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            self.drop()
            return DeliveryResult(
                "unknown", f"the connection ended within the body: {type(error).__name__}"
            )
        return DeliveryResult("delivered", "accepted by the server")

    async def _connected(self) -> aiosmtplib.SMTP:
        if self._client is not None and self._client.is_connected:
            return self._client
        client = aiosmtplib.SMTP(
            hostname=self._where.hostname or "127.0.0.1",
            port=self._where.port or 25,
            use_tls=self._where.scheme == "smtps",
            timeout=15,
        )
        await client.connect()
        if self._where.username:
            await client.login(unquote(self._where.username), unquote(self._where.password or ""))
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


def build_email(letter: RenderedMessage, sender: str) -> EmailMessage:
    """Return the mail. Raises ValueError for an address or a header that could smuggle in another one."""
    if not _ADDRESS.fullmatch(letter.address):
        raise ValueError("not one plain address")
    message = EmailMessage()
    message["From"] = sender
    message["To"] = letter.address
    message["Subject"] = letter.subject
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = f"<{letter.action_id}@perigee>"
    message["List-Unsubscribe"] = f"<{letter.unsubscribe_url}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(letter.text)
    if letter.html is not None:
        message.add_alternative(letter.html, subtype="html")
    return message


def _answered(error: aiosmtplib.SMTPResponseException) -> DeliveryResult:
    again = 400 <= error.code < 500
    # RFC 3463: 5.1.x is about the address, of which .1, .2, .3, .6 and .10 say that there is none.
    gone = not again and _NO_SUCH_ADDRESS.match(error.message) is not None
    return DeliveryResult(
        "again" if again else "refused", f"the server answered {error.code}", gone=gone
    )
