"""Which requests a web page of another site causes: the local servers refuse them.

The servers have no password, and any page that a browser on this machine shows can send requests
to 127.0.0.1. A page of another origin is known by its Origin (sent with everything that changes
something) or Sec-Fetch-Site (with everything); a page whose host name was made to resolve to
127.0.0.1 after it was loaded (DNS rebinding) is known by the Host. Programs send none of these
headers except Host, which is the address that they were given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
OWN_SITE: Final = ("same-origin", "none")
"""Values of Sec-Fetch-Site: the server's own pages, and the address bar."""


def refusal(host: str | None, origin: str | None, fetch_site: str | None) -> str | None:
    """Why a request with these headers is refused; None for one that is not."""
    name = _host_name(host or LOOPBACK[0])
    if name not in LOOPBACK and not name.endswith(".localhost"):
        return f"The host {name} is refused: this server is for this machine, use 127.0.0.1."
    if origin is not None and origin.lower() != f"http://{(host or '').lower()}":
        return f"The origin {origin} is refused: pages of other origins may not use this server."
    if fetch_site is not None and fetch_site.lower() not in OWN_SITE:
        return "The request of a page of another origin is refused."
    return None


def _host_name(host: str) -> str:
    """The name in a Host header, without the port and the dot of a full name."""
    name, separator, port = host.rpartition(":")
    return (name if separator and port.isdigit() else host).lower().removesuffix(".")


@web.middleware
async def refuse_foreign(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The middleware of the servers that are aiohttp applications."""
    headers = request.headers
    problem = refusal(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site"))
    if problem is not None:
        return web.json_response({"message": problem}, status=403)
    return await handler(request)
