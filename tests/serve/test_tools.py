"""Tools for programs: each has a schema, answers as its command does, and reads and writes nowhere else than it may."""

import asyncio

import pytest

from anymc3d.cli.main import main
from anymc3d.errors import UsageError
from anymc3d.serve.tools import Tools, ToolSettings, make_server


@pytest.fixture
def tools(journey, tmp_path, monkeypatch):
    """Tools whose commands are noted, and not run."""
    asked = []

    def noted(self, words):
        asked.append(words)
        return {"exit_code": 0}

    monkeypatch.setattr(Tools, "_run", noted)
    made = Tools(ToolSettings(plugins=(journey.plugin,), inputs=(journey.data,), out=tmp_path / "out"))
    return made, asked


def test_every_tool_has_a_schema_and_reading_ones_say_so(tools, journey):
    mcp = pytest.importorskip("mcp", reason="needs mcp: pip install 'anymc3d[mcp]'")
    made, asked = tools

    async def driven():
        async with mcp.Client(make_server(made)) as client:
            offered = (await client.list_tools()).tools
            good = await client.call_tool("predict", {"scans": [str(journey.scans[0])]})
            bad = await client.call_tool("predict", {"scans": ["/etc/passwd"]})
            return offered, good, bad

    offered, good, bad = asyncio.run(driven())
    assert [tool.name for tool in offered] == ["doctor", "plan", "predict", "explain", "report"]
    schemas = {tool.name: tool.input_schema for tool in offered}
    assert schemas["predict"]["required"] == ["scans"] and schemas["predict"]["properties"]["scans"]["type"] == "array"
    assert [tool.annotations.read_only_hint for tool in offered] == [True, True, True, False, False]
    assert not good.is_error and asked[-1][:2] == ["predict", "-p"]
    assert bad.is_error and "outside the folders" in bad.content[0].text


def test_without_an_output_folder_nothing_that_writes_is_offered(journey):
    settings = ToolSettings(plugins=(journey.plugin,), inputs=(journey.data,))
    assert [one.__name__ for one in Tools(settings).offered()] == ["doctor", "plan", "predict"]
    assert [one.__name__ for one in Tools(ToolSettings(plugins=(), inputs=())).offered()] == ["doctor", "plan"]


def test_E8_a_caller_names_no_other_place_and_no_option(tools, journey, tmp_path):
    made, asked = tools
    scan = str(journey.scans[0])
    (journey.data / "leads_out").symlink_to("/etc")
    refused = [
        lambda: made.predict([str(journey.data / "leads_out" / "passwd")]),
        lambda: made.predict([f"{journey.data}/../../etc/passwd"]),
        lambda: made.predict(["scan\0.nii.gz"]),
        lambda: made.predict([scan], plugin="/etc/passwd"),
        lambda: made.predict([scan], series="--device"),
        lambda: made.predict([]),
        lambda: made.explain(scan, "../outside"),
        lambda: made.report(scan, ".."),
        lambda: made.doctor(str(journey.data / "manifest.csv"), labels="--out=x"),
    ]
    try:
        for ask in refused:
            with pytest.raises(UsageError):
                ask()
    finally:
        (journey.data / "leads_out").unlink()
    assert asked == []
    made.explain(scan, "case-1", series="thinnest axial")
    assert "--series=thinnest axial" in asked[0] and str(tmp_path / "out" / "case-1") in asked[0]


def test_a_command_is_run_and_its_answer_is_data(journey):
    made = Tools(ToolSettings(plugins=(), inputs=(journey.data,)))
    found = made.doctor()
    assert found["exit_code"] in (0, 2) and any(check["what"] == "torch" for check in found["result"])
    assert "Research use only" in found["notice"]


def test_folders_and_plugins_are_checked_at_the_start(tmp_path, capsys):
    assert main(["mcp", "--data", str(tmp_path / "nothing")]) == 2
    assert "expected a folder" in capsys.readouterr().err
    with pytest.raises(UsageError, match="one file name"):
        ToolSettings(plugins=(tmp_path / "a" / "p", tmp_path / "b" / "p"), inputs=())
