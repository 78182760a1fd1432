"""Certificates: what may be signed, who signs it, whose chain is believed, and what is revoked.

No sockets and no SQL. RFC 5280 (certificates, CRLs, path validation), RFC 2986 (signing requests),
RFC 6960 (OCSP), RFC 5652 (the degenerate PKCS #7 that carries certificates).

Path validation (`chain`) is OpenSSL's, through pyOpenSSL's store, and not that of `cryptography`'s
verifier. Both were tried on the chains that tests/certs.py makes:

- `cryptography`'s keeps to the web's profile: no Ed25519 anywhere, no name constraints on directory
  names, and a key usage that is no authority's is let pass unless one writes that check oneself.
  Its refusals are sentences; an expired leaf and an unknown root differ in their wording.
- OpenSSL's has all of these, and numbers for its refusals. It does not try a second issuer where a
  first one fits: `chain` gives it those that lead to the anchor. Without a purpose, which pyOpenSSL
  cannot set, it says nothing of what the leaf and extended key usages are for: `chain` checks these
  itself, and that no key or hash is weak.
- A leaf under its anchor takes 300 µs (ECDSA P-256), with an issuer between them 450;
  `cryptography`'s takes 190 and 290. It is done once for a certificate, when it is first seen.

Covered of RFC 5280, section 6: signatures, times (the anchor's too), names, basic constraints, path
length, key usage, extended key usage (of every certificate), name constraints (directory names, DNS
names, addresses, e-mail addresses, URIs), unknown critical extensions, self-issued certificates. An
anchor was chosen by a person: one of version 1, or with a key usage in place of basic constraints,
is believed to be an authority.

Not covered: certificate policies, their mappings and `requireExplicitPolicy` (OpenSSL's check needs
to be told which policies are wanted, and pyOpenSSL has no way to say "any": it would refuse good
chains); revocation lists of other authorities.

`model`, `bundle` and `revocation` can be imported by everybody. The others load `cryptography`'s
X.509, and `chain` OpenSSL's bindings and RE2 besides: some 50 ms and 5 MiB, which a gateway in the
open need not pay. They are imported by the functions that need them; a gateway with a server's
certificate loads them when it starts.
"""
