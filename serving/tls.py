"""TLS, with a certificate that may be replaced while the server runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from adaptive.errors import InputError

log = logging.getLogger("adaptive.serving")


class CertificateFiles:
    """A certificate chain and its key, in PEM files.

    Parameters
    ----------
    chain : the server's certificate first
    key : None where it is in the same file

    Raises
    ------
    InputError
        when they cannot be read or do not belong together.
    """

    def __init__(self, chain: Path, key: Path | None = None) -> None:
        self.chain = chain
        self.key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._load()
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise InputError(f"the certificate {chain} cannot be used: {reason}") from exc

    def __repr__(self) -> str:
        return f"CertificateFiles({str(self.chain)!r})"

    def reload(self) -> None:
        """Use what the files hold now, for new connections; the last one stays where they fail."""
        try:
            # A half-written pair must not reach the context that is in use.
            CertificateFiles(self.chain, self.key)
            self._load()
        except (InputError, OSError, ValueError) as error:
            log.error("the certificate was not loaded, and the last one is used on: %s", error)

    def _load(self) -> None:
        self.context.load_cert_chain(self.chain, self.key, password=_no_password)


def _no_password() -> str:
    # Otherwise OpenSSL would ask for one at the terminal.
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")
