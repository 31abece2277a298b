"""JSON documents signed with the ledger's key, so that whoever holds one can check it without us.

The signature is a detached JWS (RFC 7515 appendix F, algorithm Ed25519 of RFC 9864) in the member
`tutela:signature`; the payload is the RFC 8785 form of the document without it. `kid` is the name
of the key.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import OKPKey

from consent.errors import LedgerError
from consent.ledger.canonical import encode
from consent.ledger.checkpoint import NoteSigner, Verifier

SIGNATURE: Final = "tutela:signature"
ALGORITHM: Final = "Ed25519"


class SignatureError(LedgerError):
    """The document is not signed by this key, or was changed since."""

    code = "SIGNATURE_INVALID"


def signed(document: Mapping[str, Any], signer: NoteSigner) -> dict[str, Any]:
    """The document with its signature.

    Raises:
        consent.ledger.canonical.CanonicalError: the document has no canonical form.
    """
    registry = jws.JWSRegistry(algorithms=[ALGORITHM])
    registry.algorithms = {ALGORITHM: _ByTheSigner(signer)}
    token = jws.serialize_compact(
        {"alg": ALGORITHM, "kid": signer.name},
        encode(dict(document)),
        _key(signer.public_key),
        registry=registry,
    )
    return {**document, SIGNATURE: jws.detach_content(token)}


def opened(document: Mapping[str, Any], verifier: Verifier) -> dict[str, Any]:
    """The document without its signature, which was checked.

    Raises:
        SignatureError: it has none, it is another key's, or it does not verify.
    """
    content = {name: value for name, value in document.items() if name != SIGNATURE}
    signature = document.get(SIGNATURE)
    if not isinstance(signature, str):
        raise SignatureError("the document carries no signature")
    try:
        token = jws.deserialize_compact(
            signature, _key(verifier.public_key), algorithms=[ALGORITHM], payload=encode(content)
        )
    except (JoseError, LedgerError, ValueError) as error:
        raise SignatureError("the signature does not verify: the document was changed") from error
    if token.headers().get("kid") != verifier.name:
        raise SignatureError("the document was signed under another name")
    return content


def as_text(document: Mapping[str, Any]) -> str:
    """The document as it is handed out."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _key(public_key: bytes) -> OKPKey:
    encoded = urlsafe_b64encode(public_key).rstrip(b"=").decode()
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encoded})


class _ByTheSigner(JWSAlgModel):
    """Ed25519 where the private key stays with the signer, which signs and never shows it."""

    name = ALGORITHM
    description = "EdDSA using the Ed25519 parameter set"
    key_type = "OKP"

    def __init__(self, signer: NoteSigner) -> None:
        self._signer = signer

    def sign(self, msg: bytes, key: Any) -> bytes:  # noqa: ARG002 - signature of the base class
        """Sign with the signer's own key."""
        return self._signer.sign(msg)

    def verify(self, msg: bytes, sig: bytes, key: Any) -> bool:
        """Check with the public key."""
        return jws.JWSRegistry.algorithms[self.name].verify(msg, sig, key)
