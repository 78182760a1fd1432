"""A device whose private key never leaves it: it is given a certificate, and logs in with it.

    python examples/certificate_device.py data/tls/lab-ca.pem [https://localhost:8443]

GATEHOUSE_KEY and GATEHOUSE_SECRET hold the fleet's key and secret. Needs `cryptography`.
"""

import json
import os
import secrets
import ssl
import sys
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TRUSTED = sys.argv[1]
GATEWAY = sys.argv[2] if len(sys.argv) > 2 else "https://localhost:8443"
NAME = f"https-{secrets.token_hex(4)}"


def post(path: str, body: dict[str, object], trust: ssl.SSLContext) -> bytes:
    request = Request(f"{GATEWAY}/api/v1/{path}", json.dumps(body).encode(), method="POST")
    with urlopen(request, timeout=15, context=trust) as answer:
        return bytes(answer.read())


key = ec.generate_private_key(ec.SECP256R1())
request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

trust = ssl.create_default_context(cafile=TRUSTED)
asked: dict[str, object] = {
    "deviceName": NAME,
    "provisionDeviceKey": os.environ["GATEHOUSE_KEY"],
    "provisionDeviceSecret": os.environ["GATEHOUSE_SECRET"],
    "csr": csr.decode(),
}
told = json.loads(post("provision", asked, trust))  # a refusal is 200 as well: `status` tells
if told["status"] != "SUCCESS":
    sys.exit(f"{NAME} was refused: {told['errorMsg']}")

with tempfile.TemporaryDirectory() as folder:  # a real device keeps both
    identity = Path(folder) / "identity.pem"
    form, bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    identity.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, bare))
    with identity.open("a") as file:
        file.write(told["certificate"] + told["certificateChain"])
    trust.load_cert_chain(identity)
post("telemetry", {"temperature": 21.5}, trust)
print(f"{NAME} is provisioned and has sent a reading")
