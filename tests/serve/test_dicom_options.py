"""The DICOM options of ``anymc3d serve`` as the settings that they make."""

from anymc3d.cli.main import parse
from anymc3d.cli.serve_dicom import node_settings


def test_every_option_reaches_its_setting(tmp_path):
    codes = "findings:\n  {}: {{value: '1', scheme: SCT, meaning: x}}\n"
    rules = "format: 1\nrules:\n- {plugin: block, series: axial}\n"
    (tmp_path / "rules.yaml").write_text(rules + codes.format("a"))
    (tmp_path / "codes.yaml").write_text("format: 1\n" + codes.format("b"))
    (tmp_path / "headers").write_text("Authorization: Basic abc=\n")
    (tmp_path / "headers").chmod(0o600)
    words = ["-p", "p", "--store", str(tmp_path), "--dicom-port", "11112", "--allow-ae", "A@h", "--allow-ae", "B"]
    words += ["--ae-title", "ME", "--rules", str(tmp_path / "rules.yaml"), "--sr-codes", str(tmp_path / "codes.yaml")]
    words += ["--send-to", "C@h:104", "--send-header-file", str(tmp_path / "headers"), "--watch", str(tmp_path)]
    found = node_settings(parse("serve", [*words, "--dicom-objects", "sr, map", "--quiet-seconds", "2"]))
    assert (found.dicom_host, found.dicom_port, found.ae_title) == ("127.0.0.1", 11112, "ME")
    assert (found.allow_ae, found.send_to, found.objects) == (("A@h", "B"), ("C@h:104",), ("sr", "map"))
    assert found.rules.rules[0].plugin == "block" and found.watch == tmp_path and found.quiet_s == 2
    assert set(found.codes) == {"a", "b"} and found.send_headers == {"Authorization": "Basic abc="}
    assert [peer.name for peer in found.peers()] == ["C@h:104"]
    plain = node_settings(parse("serve", ["-p", "p", "--store", "s", "--dicom-objects", "none"]))
    assert plain.objects == () and plain.dicom_port is None and plain.rules is None and plain.codes == {}
