"""Content Credentials (C2PA): a signed statement inside an audio file that a machine made it.

By c2pa-python (extra `c2pa`), without a network: the certificate is the user's, no time stamp is asked for. A signature holds random
numbers and the time, so signed files of the same speech differ in these bytes; their samples do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import svae
from svae.errors import ConfigError, DataError
from svae.runtime.files import atomic_path

MEDIA_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg"}
"""What C2PA is defined for; Ogg is not among them (c2pa-python 0.38)."""
TRAINED_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for what a trained model made."""
NO_TIME_STAMP = None


@dataclass(frozen=True)
class Credentials:
    """Who signs: a certificate with those that vouch for it, and its key."""

    chain: Path
    """PEM, the signer's own first."""
    key: Path
    """PEM, PKCS 8, without a password."""

    def signer(self) -> Any:
        """Return what signs.

        Raises:
            ConfigError: the package is missing, or a file cannot be used.
        """
        c2pa = _library()
        try:
            chain, key = self.chain.read_bytes(), self.key.read_bytes()
            info = c2pa.C2paSignerInfo(
                alg=_algorithm(key).encode(), sign_cert=chain, private_key=key, ta_url=NO_TIME_STAMP
            )
            return c2pa.Signer.from_info(info)
        except (OSError, ValueError, TypeError, c2pa.C2paError) as error:
            raise ConfigError(
                f"--c2pa-cert {self.chain}, --c2pa-key {self.key}: cannot sign with these ({_first(error)}). Expected PEM: a chain of "
                "certificates whose first is for signing (email protection), and its private key without a password"
            ) from None


def _library() -> Any:
    try:
        import c2pa
    except ImportError:
        raise ConfigError(
            "--c2pa-cert: needs c2pa-python, which is not installed; try: pip install 'svae[c2pa]'"
        ) from None
    return c2pa


def _algorithm(key: bytes) -> str:
    """Return C2PA's name of what a private key signs with. Raises ValueError for keys that it does not know."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = load_pem_private_key(key, password=None)
    if isinstance(found, ec.EllipticCurvePrivateKey):
        bits = {"secp256r1": "256", "secp384r1": "384", "secp521r1": "512"}.get(found.curve.name)
        if bits is not None:
            return f"es{bits}"
    if isinstance(found, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(found, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise ValueError("a key of another kind than ES256, ES384, ES512, PS256 or Ed25519")


def sign(path: Path, credentials: Credentials, mark: Mapping[str, Any]) -> None:
    """Put a signed statement into an audio file that says what `mark` says of it.

    Raises:
        ConfigError: see `Credentials.signer`, or a format without credentials.
    """
    c2pa = _library()
    media = MEDIA_TYPES.get(path.suffix.lower())
    if media is None:
        raise ConfigError(f"{path}: C2PA has no place in such files; use {', '.join(MEDIA_TYPES)}")
    action = {"action": "c2pa.created", "digitalSourceType": TRAINED_MEDIA}
    manifest = {
        "claim_generator_info": [{"name": "svae", "version": svae.__version__}],
        "title": path.name,
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": [action]}},
            {"label": "org.svae.speech", "data": dict(mark)},
        ],
    }
    signer = credentials.signer()
    try:
        with (
            atomic_path(path) as temporary,
            open(path, "rb") as source,
            open(temporary, "w+b") as target,
        ):
            c2pa.Builder(manifest).sign(signer, media, source, target)
    except c2pa.C2paError as error:
        raise ConfigError(f"{path}: cannot be signed ({_first(error)})") from None


def read_credentials(path: Path) -> dict[str, Any] | None:
    """Return what the credentials in a file say and whether they hold; None where it has none, or c2pa-python is missing.

    Raises:
        DataError: they are damaged.
    """
    if find_spec("c2pa") is None or path.suffix.lower() not in MEDIA_TYPES:
        return None
    c2pa = _library()
    try:
        with c2pa.Reader(str(path)) as reader:
            tree = json.loads(reader.json())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in f"{type(error).__name__}{error}":
            return None
        raise DataError(
            f"{path}: its content credentials cannot be read ({_first(error)})"
        ) from None
    manifest = tree.get("manifests", {}).get(tree.get("active_manifest"), {})
    problems = [problem.get("code") for problem in tree.get("validation_status") or []]
    return {
        "state": tree.get("validation_state"),
        "problems": problems,
        "signed_by": manifest.get("signature_info", {}).get("issuer"),
        "assertions": {row["label"]: row.get("data") for row in manifest.get("assertions", [])},
    }


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
