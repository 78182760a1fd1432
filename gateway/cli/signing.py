"""Asking for a certificate from the shell: a key, its signing request, and what comes back."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.cli.lab_certificate import key_pem

_MOST_CSR_BYTES = 16_384
_MOST_CN = 64


def read_request(file: IO[bytes]) -> str:
    """A signing request (PKCS #10, RFC 2986) from a file, PEM or DER, as PEM."""
    content = file.read(_MOST_CSR_BYTES + 1)
    try:
        if len(content) > _MOST_CSR_BYTES:
            raise ValueError
        load = x509.load_pem_x509_csr if b"-----BEGIN" in content else x509.load_der_x509_csr
        return load(content).public_bytes(Encoding.PEM).decode("ascii")
    except (ValueError, UnsupportedAlgorithm):
        raise click.UsageError(
            "--csr wants a signing request in PEM or DER of at most 16 KiB, as `openssl req -new` "
            "makes it."
        ) from None


def new_request(device_name: str) -> tuple[str, str]:
    """A new P-256 key and a signing request for it, both PEM.

    The request's subject is a courtesy: the gateway's profile decides what is signed.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, device_name[:_MOST_CN])] if device_name else []
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return key_pem(key).decode("ascii"), pem.decode("ascii")


def certificates_given(told: Mapping[str, Any]) -> str:
    """The device's certificate and its issuers' out of a provisioning answer, PEM."""
    leaf = told.get("certificate") or _pem(str(told.get("credentialsValue")))
    issuers = told.get("certificateChain") or ""
    if isinstance(issuers, list):
        issuers = "".join(_pem(str(one)) for one in issuers)
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in (leaf, issuers) if text)


def _pem(base64_der: str) -> str:
    lines = textwrap.fill(base64_der, 64)
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def tell_how_to_use(certificate: Path | None, key: Path | None) -> None:
    """Where it is, and how a device shows it."""
    if certificate is not None:
        click.echo(f"certificate and issuers written to {certificate}", err=True)
    if key is not None:
        click.echo(f"its key is in {key}, which only you can read", err=True)
    if certificate is not None and key is not None:
        click.echo(
            f"use them with: curl --cert {certificate} --key {key} --cacert SERVER-CA.pem "
            "-d '{\"temperature\":21.5}' https://HOST:8443/api/v1/telemetry",
            err=True,
        )
