"""Who made a plugin: an ed25519 signature in a file beside it, checked against public keys that were named beforehand.

What is signed are two lines of text, ``anymc3d plugin 1`` and ``sha256:<64 digits of the plugin's file>``, each with a
line end; any ed25519 program can check that (docs/sharing.md). A key says who signed, never that the plugin is good.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.errors import PackageError, PluginError, UsageError
from anymc3d.files import atomic, home, regular
from anymc3d.printable import shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX = "ed25519:"
PASSPHRASE_VARIABLE = "ANYMC3D_KEY_PASSPHRASE"
MAX_SIGNATURE_BYTES = 4096
MAX_KEY_BYTES = 65_536
_KEY = re.compile(r"ed25519:[A-Za-z0-9+/]{43}=")
_FILE = re.compile(rf"anymc3d-signature 1\nkey ({_KEY.pattern})\nsignature ([A-Za-z0-9+/]{{86}}==)\n")


def trusted_file() -> Path:
    """Keys of which one must have signed whatever is pulled, where this file exists."""
    return home.home_folder() / "trusted-keys"


def make_key(path: Path) -> str:
    """Write a new private key (PEM, for this user alone) and ``PATH.pub`` beside it; the public key.

    It is encrypted where ``ANYMC3D_KEY_PASSPHRASE`` is set.

    Raises:
        UsageError: there is something at one of the two places.
    """
    serialization, ed25519 = _library()
    public_path = path.with_name(path.name + ".pub")
    for place in (path, public_path):
        if place.exists() or place.is_symlink():
            raise UsageError(f"{place}: is there already, and a key is never written over; choose another name")
    key = ed25519.Ed25519PrivateKey.generate()
    secret = _passphrase()
    hidden = serialization.NoEncryption() if secret is None else serialization.BestAvailableEncryption(secret)
    form = serialization.PrivateFormat.PKCS8
    atomic.write_bytes(path, key.private_bytes(serialization.Encoding.PEM, form, hidden))
    public = _public_text(key)
    atomic.write_text(public_path, public + "\n")
    return public


def sign(sha256: str, key_path: Path) -> str:
    """The signature file of a plugin whose file has this hash.

    Raises:
        UsageError: the key cannot be read, or is of another kind.
    """
    serialization, ed25519 = _library()
    try:
        with regular.opened(key_path) as file:
            key = serialization.load_pem_private_key(file.read(MAX_KEY_BYTES), password=_passphrase())
    except OSError as error:
        raise UsageError(f"{key_path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, TypeError) as error:
        kind = "its passphrase is wrong or missing" if "ssword" in str(error) or "rypt" in str(error) else "damaged"
        raise UsageError(
            f"{key_path}: expected a private key as anymc3d plugin keygen makes it ({kind}; a passphrase comes from "
            f"{PASSPHRASE_VARIABLE})"
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{key_path}: expected an ed25519 key; make one: anymc3d plugin keygen -o KEY")
    signature = base64.b64encode(key.sign(_message(sha256))).decode()
    return f"anymc3d-signature 1\nkey {_public_text(key)}\nsignature {signature}\n"


def check_signature(text: str | None, sha256: str, trusted: Sequence[str], where: str) -> str:
    """The one of ``trusted`` keys that signed a file with this hash; ``text``: its signature file, or none.

    Raises:
        PluginError: there is none, it is damaged, by another key, or of another file.
    """
    _, ed25519 = _library()
    from cryptography.exceptions import InvalidSignature

    if text is None:
        raise PluginError(f"{where}: not signed (no .sig beside it), and a signature by a named key was asked for")
    match = _FILE.fullmatch(text)
    if match is None:
        raise PluginError(f"{where}: its signature file is damaged; expected three lines, as plugin push writes them")
    key, signature = match.groups()
    if key not in trusted:
        raise PluginError(f"{where}: signed by {key}, which is none of the {len(trusted)} keys that are trusted here")
    public = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix(PREFIX)))
    try:
        public.verify(base64.b64decode(signature), _message(sha256))
    except InvalidSignature:
        raise PluginError(
            f"{where}: the signature does not fit the file: it was changed after it was signed, or belongs to another"
        ) from None
    return key


def named_keys(texts: Sequence[str]) -> tuple[str, ...]:
    """Public keys, each as text or as a file of them; where none is given those of ``ANYMC3D_HOME/trusted-keys``.

    Raises:
        UsageError: something is not a public key, or a file holds none.
    """
    if not texts and trusted_file().exists():
        return _keys_in(trusted_file())
    keys: list[str] = []
    for text in texts:
        keys += [text] if text.startswith(PREFIX) else _keys_in(Path(text))
    for key in keys:
        if not _KEY.fullmatch(key):
            raise UsageError(f"expected a public key such as {PREFIX}… (44 letters), got '{shown(key, 80)}'")
    return tuple(keys)


def _keys_in(path: Path) -> tuple[str, ...]:
    try:
        with regular.opened(path) as file:
            lines = file.read(MAX_KEY_BYTES).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a file of public keys, one a line ({type(error).__name__})") from None
    if any("PRIVATE KEY" in line for line in lines):
        raise UsageError(f"{path}: this is a private key; keep it to yourself and give {path}.pub")
    keys = tuple(line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys or not all(map(_KEY.fullmatch, keys)):
        raise UsageError(f"{path}: expected public keys such as {PREFIX}…, one a line")
    return keys


def _message(sha256: str) -> bytes:
    return f"anymc3d plugin 1\nsha256:{sha256}\n".encode()


def _public_text(key: Ed25519PrivateKey) -> str:
    return PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None


def _library():  # type: ignore[no-untyped-def]  # modules
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise PackageError("signatures need the package cryptography; pip install 'anymc3d[sign]'") from None
    return serialization, ed25519
