"""What ``anymc3d backbone`` says of weights for networks of the zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymc3d.errors import BackboneError


def network_rows() -> list[dict[str, Any]]:
    """One row per published file of weights, and per stored one under a name of the user's."""
    from anymc3d.models.zoo.network_store import stored_networks
    from anymc3d.models.zoo.published_table import PUBLISHED
    from anymc3d.models.zoo.published_weights import num_parameters

    stored = {record.name: record for record in stored_networks()}
    known = {name: PUBLISHED[record.published] for name, record in stored.items()}
    rows = []
    for name, published in (PUBLISHED | known).items():
        rows.append(
            {
                "name": name,
                "parameters": num_parameters(published),
                "patch": None,
                "licence": published.licence,
                "gated": published.gated,
                "stored": name in stored,
                "fingerprint": stored[name].fingerprint if name in stored else None,
            }
        )
    return rows


def import_network_file(path: Path, name: str | None) -> dict[str, Any] | None:
    """Import weights of a network and say what became of every tensor; None if they are of no network of the zoo.

    Raises:
        BackboneError: as :func:`anymc3d.models.zoo.network_store.import_network`.
    """
    from anymc3d.models.zoo.network_store import import_network, network_folder

    imported = import_network(path, name)
    if imported is None:
        return None
    record, conversion = imported.record, imported.conversion
    return {
        "name": record.name,
        "title": conversion.published.title,
        "methods": list(conversion.published.users),
        "loaded": len(conversion.tensors),
        "not_used": [f"{count} ({reason})" for reason, count in conversion.dropped.items()],
        "initial_values": [f"{name} ({reason})" for name, reason in conversion.fresh.items()],
        "fingerprint": record.fingerprint,
        "checked": "nobody has published a fingerprint; this one is now on record",
        "licence": record.licence,
        "folder": str(network_folder(record.name)),
    }


def known_networks() -> str:
    """Which published weights of networks are taken besides, in half a sentence."""
    from anymc3d.models.zoo.published_table import PUBLISHED

    titles = ", ".join(f"{published.title} ({name})" for name, published in PUBLISHED.items())
    return f"nor weights of a network to compare with: {titles}"


def network_verdicts(target: str | None) -> list[dict[str, Any]]:
    """The verdict on one stored network (none if it has another name), or on all of them."""
    from anymc3d.models.zoo.network_store import stored_network_names, verify_network

    verdicts = []
    for name in stored_network_names():
        if target not in (None, name):
            continue
        try:
            fingerprint, verdict, message = verify_network(name).fingerprint, "ok", ""
        except BackboneError as error:
            fingerprint, verdict, message = None, "failed", str(error)
        verdicts.append({"name": name, "verdict": verdict, "fingerprint": fingerprint, "message": message})
    return verdicts


def show_network(target: str) -> dict[str, Any] | None:
    """Everything known of weights for networks; None if the name is of none."""
    from anymc3d.models.zoo.network_store import how_to_get, network_folder, stored_network
    from anymc3d.models.zoo.published_table import PUBLISHED
    from anymc3d.models.zoo.published_weights import num_parameters

    record = stored_network(target)
    published = PUBLISHED.get(record.published if record else target)
    if published is None:
        return None
    return {
        "name": target,
        "title": published.title,
        "methods": list(published.users),
        "files": list(published.files),
        "source": published.source,
        "licence": published.licence,
        "gated": published.gated,
        "parameters": num_parameters(published),
        "fingerprint": record.fingerprint if record else None,
        "weights": str(network_folder(target)) if record else f"not here; {how_to_get(published)}",
    }


def way_to_network(name: str) -> str | None:
    """Where the file of a network's weights is published and how it is taken; None if the name is of none."""
    from anymc3d.models.zoo.network_store import how_to_get
    from anymc3d.models.zoo.published_table import PUBLISHED

    return how_to_get(PUBLISHED[name]) if name in PUBLISHED else None
