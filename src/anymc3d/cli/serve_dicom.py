"""The DICOM options of ``anymc3d serve``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anymc3d.serve.node_settings import NodeSettings


def add_dicom_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the service does with DICOM."""
    parser.add_argument(
        "--dicom-objects",
        default="sr,seg,capture",
        metavar="KINDS",
        help="DICOM objects made of an answer: sr, seg, map, capture, separated by commas; none: no such objects "
        "(default: sr,seg,capture)",
    )
    parser.add_argument(
        "--dicom-link",
        default="patient",
        metavar="LINK",
        help="patient (the default): DICOM objects bear name, id and dates of the scan, so that an archive files them "
        "in its study; linked: its UIDs alone",
    )
    parser.add_argument("--dicom-port", type=int, metavar="P", help="also a DICOM node (C-ECHO, C-STORE) at this port")
    parser.add_argument("--dicom-host", default="127.0.0.1", help="its address; it has neither passwords nor TLS")
    parser.add_argument("--ae-title", default="ANYMC3D", metavar="TITLE", help="its AE title (default: ANYMC3D)")
    parser.add_argument(
        "--allow-ae", action="append", default=[], metavar="TITLE[@HOST]", help="who may send to it; can be repeated"
    )
    parser.add_argument(
        "--quiet-seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="a study is taken when nothing of it came for so long (default: 5)",
    )
    parser.add_argument(
        "--send-to",
        action="append",
        default=[],
        metavar="PEER",
        help="send every DICOM object there: AE@host:port, or the URL of a STOW service, which ends with /studies; can "
        "be repeated",
    )
    parser.add_argument(
        "--send-header-file",
        type=Path,
        metavar="FILE",
        help="headers for STOW peers, such as 'Authorization: Basic …', one in a line",
    )
    parser.add_argument(
        "--watch", type=Path, metavar="DIR", help="also answer every file and study folder that is put here"
    )
    parser.add_argument(
        "--rules", type=Path, metavar="FILE", help="which series goes to which plugin, as YAML (docs/dicom-node.md)"
    )
    parser.add_argument("--sr-codes", type=Path, metavar="FILE", help="the codes of findings, as YAML (docs/dicom.md)")


def node_settings(args: argparse.Namespace) -> NodeSettings:
    """The settings that these options make.

    Raises:
        UsageError: options that do not fit each other.
    """
    from anymc3d.report.finding_codes import read_codes
    from anymc3d.serve.node_settings import NodeSettings
    from anymc3d.serve.peers import read_headers
    from anymc3d.serve.rules import read_rules

    names = [name.strip() for name in args.dicom_objects.split(",") if name.strip()]
    rules = None if args.rules is None else read_rules(args.rules)
    codes = {} if rules is None else dict(rules.findings)
    codes |= {} if args.sr_codes is None else read_codes(args.sr_codes)
    return NodeSettings(
        objects=() if names == ["none"] else tuple(names),
        link=args.dicom_link,
        dicom_host=args.dicom_host,
        dicom_port=args.dicom_port,
        ae_title=args.ae_title,
        allow_ae=tuple(args.allow_ae),
        quiet_s=args.quiet_seconds,
        codes=codes,
        rules=rules,
        watch=args.watch,
        send_to=tuple(args.send_to),
        send_headers={} if args.send_header_file is None else read_headers(args.send_header_file),
    )
