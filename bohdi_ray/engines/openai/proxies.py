"""Which proxy of the environment applies to a server, and whether it can be used. Pure but for the environment.

The variables are the usual ones: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, in capitals or not.
"""

from __future__ import annotations

import importlib.util
import urllib.request
from urllib.parse import urlsplit

from bohdi_ray.errors import ConfigError

SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_of(base_url: str) -> str | None:
    """The address of the proxy for requests to `base_url`; None without one.

    Raises ConfigError for a proxy that cannot be used; the message never contains its user name or password.
    """
    address = urlsplit(base_url)
    proxies = urllib.request.getproxies()
    variable = next((name for name in (address.scheme, "all") if proxies.get(name)), None)
    if variable is None or urllib.request.proxy_bypass(address.netloc):
        return None
    proxy = proxies[variable] if "://" in proxies[variable] else f"http://{proxies[variable]}"
    field = f"{variable.upper()}_PROXY"
    unset = f"or add {address.hostname} to NO_PROXY to reach {base_url} without a proxy"
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname, parts.port  # the latter raises for what is no number
    except ValueError as error:
        raise ConfigError(
            field, "(not shown)", f"it is not a valid address ({error})", f"Correct it, {unset}."
        ) from None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.scheme not in SCHEMES or not host or parts.path.strip("/"):
        rule = f"a proxy's address is SCHEME://HOST:PORT, with the schemes {', '.join(SCHEMES)}"
        raise ConfigError(field, shown, rule, f"Correct it, {unset}.")
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            field,
            shown,
            "a SOCKS proxy needs the package socksio, which is not installed on this node",
            f"Install it on every node (pip install 'bohdi_ray[socks]', or pip install socksio), {unset}.",
        )
    return proxy
