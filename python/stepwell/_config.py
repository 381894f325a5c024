"""Where settings come from: arguments first, then STEPWELL_* variables, then defaults. Read once, when an engine opens."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from stepwell._errors import InputError

_log = logging.getLogger("stepwell")

# Where Linux distributions keep their CA bundle; a wheel built elsewhere cannot know.
_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


#: Never reached through a proxy: test servers and local models live there.
LOOPBACK_NAMES = "localhost,127.0.0.1,::1"


def store_path(path: str | Path | None) -> str:
    """Return the store's file as text, "" for memory. Makes the folder of a file named with one."""
    if path is None:
        return ""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    if not isinstance(text, str) or not text or not _is_nameable(text):
        raise InputError(
            "SW-E1013",
            "not a store this version can open",
            got=repr(path)[:200],
            expected="a file such as 'support.db', or nothing for memory",
        )
    try:
        file = Path(text).expanduser()
        is_folder = file.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long for the disk, a ~user that nobody is
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError("SW-E1013", f"the store's path cannot be used: {why}", got=text[:200]) from None
    if is_folder:
        raise InputError(
            "SW-E1013", "the store's path is a folder", got=text, hint=f"name a file: {file / 'stepwell.db'}"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "SW-E1013", f"the store's folder cannot be made: {error.strerror}", got=str(file.parent)
        ) from None
    return str(file)


def keep_standard_descriptors() -> None:
    """Put /dev/null where the process has no standard input, output or error, as a daemon does.

    Otherwise the store's file or the loop's pipe would be given that number, and receive what some library prints.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _is_nameable(text: str) -> bool:
    """Whether text can name a file: no NUL, no half characters, no URL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text and "://" not in text


def ca_bundle() -> str:
    """Return the CA bundle for TLS: SSL_CERT_FILE, CURL_CA_BUNDLE, REQUESTS_CA_BUNDLE, Python's own, well-known places."""
    named = [os.environ.get(name) for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")]
    for name in filter(None, named):
        if not Path(name).is_file():
            _log.warning("stepwell: there is no CA bundle %r; others are looked for", name)
    for path in (*named, ssl.get_default_verify_paths().cafile, *_CA_FILES):
        if path and Path(path).is_file():
            return path
    return ""


def proxy() -> tuple[str, str]:
    """Return proxy and exceptions from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (lower case wins, as in curl)."""
    environ = os.environ
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        if environ.get(name):
            exceptions = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
            return environ[name], ",".join(filter(None, (exceptions, LOOPBACK_NAMES)))
    return "", ""
