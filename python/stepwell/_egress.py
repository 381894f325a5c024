"""Where calls may go, and how much may come back: the policy of the egress guard."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepwell import _config
from stepwell._errors import InputError
from stepwell._types import Duration, duration_ms, is_count

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("stepwell")

_BYTES_MAX = 1 << 30
#: What Egress.proxy says when HTTPS_PROXY and its like are to be asked.
ENVIRONMENT = "environment"
_Core = tuple[list[str], list[str], list[str] | None, bool, int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Where an engine's calls may go. By default: over https to the public internet, and to this machine by its name.

    An entry of `allow`, `deny` and `hosts` is a host name ("vllm.internal"), all names below one ("*.corp.example"), an
    address, or a block of addresses ("10.0.0.0/8").

    `allow` opens what is not public: private networks, link-local addresses and the like. A name opens whatever it resolves
    to. A cloud's metadata service is opened by nothing but its own address. `deny` closes, whatever else says yes. `hosts`:
    calls go to none but these (None: to any). `http`: plain http also to other machines. `proxy`: a URL such as
    "http://proxy.corp:3128" (https:// and socks5h:// too), or "environment" to take HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
    NO_PROXY; None uses none, whatever the environment says.

    An answer's body may have `body_bytes_max` bytes (the results of a provider's batch: `bulk_bytes_max`) and be
    `unpack_ratio_max` times as large as its transfer, its headers `header_bytes_max`. An answer that has begun and then
    brings less than a byte a second for `stall` is given up.

    Raises InputError SW-E1322 for an entry or number that makes no sense.
    """

    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    hosts: Sequence[str] | None = None
    http: bool = False
    proxy: str | None = None
    body_bytes_max: int = 16 << 20
    header_bytes_max: int = 64 << 10
    unpack_ratio_max: int = 100
    stall: Duration = "60s"
    bulk_bytes_max: int = 512 << 20

    def __post_init__(self) -> None:
        """Refuse what makes no sense, and keep the lists from being changed later."""
        from stepwell import _core

        for name in ("allow", "deny", "hosts"):
            entries = getattr(self, name)
            if entries is None and name == "hosts":
                continue
            if isinstance(entries, (str, bytes)) or not hasattr(entries, "__iter__"):
                raise _unusable(name, entries, "a list of host names, addresses and blocks of addresses")
            object.__setattr__(self, name, tuple(entries))
            for entry in getattr(self, name):
                if not isinstance(entry, str):
                    raise _unusable(name, entry, "host names, addresses and blocks as text")
        if not isinstance(self.http, bool):
            raise _unusable("http", self.http, "True or False")
        if not (self.proxy is None or (isinstance(self.proxy, str) and self.proxy)):
            raise _unusable("proxy", self.proxy, 'a URL, "environment", or None')
        for name in ("body_bytes_max", "bulk_bytes_max", "header_bytes_max", "unpack_ratio_max"):
            if not is_count(getattr(self, name), _BYTES_MAX):
                raise _unusable(name, getattr(self, name), f"a number from 1 to {_BYTES_MAX:,}")
        _core.check_egress(self.to_core())

    def to_core(self) -> _Core:
        """Return the policy in the core's form; times in milliseconds."""
        return (
            list(self.allow),
            list(self.deny),
            None if self.hosts is None else list(self.hosts),
            self.http,
            self.body_bytes_max,
            self.header_bytes_max,
            self.unpack_ratio_max,
            duration_ms(self.stall, "Egress.stall"),
            self.bulk_bytes_max,
        )

    def proxies(self) -> tuple[str, str]:
        """Return the proxy's URL ("": none) and the hosts that are reached without it, by commas."""
        found = _config.proxy()
        if self.proxy == ENVIRONMENT:
            return found
        if self.proxy is None:
            if found[0]:
                _log.info('stepwell: the environment names a proxy; it is used with Egress(proxy="environment") only')
            return "", ""
        return self.proxy, _config.LOOPBACK_NAMES


def _unusable(name: str, got: object, expected: str) -> InputError:
    return InputError("SW-E1322", f"Egress.{name} is not usable", got=repr(got)[:80], expected=expected)


def egress_of(value: Egress | None) -> Egress:
    """Return the policy itself, or for None the one of the environment.

    STEPWELL_EGRESS_ALLOW (entries by commas), STEPWELL_EGRESS_HTTP ("1": plain http) and STEPWELL_PROXY. Raises InputError
    SW-E1322 for anything else.
    """
    if isinstance(value, Egress):
        return value
    if value is not None:
        raise _unusable("policy", value, "stepwell.Egress(...), or None")
    environ = os.environ
    allow = tuple(entry.strip() for entry in environ.get("STEPWELL_EGRESS_ALLOW", "").split(",") if entry.strip())
    http = environ.get("STEPWELL_EGRESS_HTTP", "").strip()
    if http not in ("", "0", "1"):
        raise _unusable("http", http, "1 or 0 in STEPWELL_EGRESS_HTTP")
    return Egress(allow=allow, http=http == "1", proxy=environ.get("STEPWELL_PROXY") or None)
