"""Energy from counters that a test plays: packages of a processor as Linux shows them, a graphics card as NVML does."""

import sys
from types import SimpleNamespace

import pytest
import torch

from anymc3d.cost import energy

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")


def zone(folder, name, kind, microjoules, most=262_143_328_850):
    own = folder / name
    own.mkdir()
    (own / "name").write_text(f"{kind}\n")
    (own / "energy_uj").write_text(f"{microjoules}\n")
    (own / "max_energy_range_uj").write_text(f"{most}\n")
    return own / "energy_uj"


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def test_packages_are_added_up_and_their_parts_and_the_platform_are_not(powercap):
    first = zone(powercap, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(powercap, "intel-rapl:1", "package-1", 9_000_000)
    core = zone(powercap, "intel-rapl:0:0", "core", 1_000_000)
    platform = zone(powercap, "intel-rapl:2", "psys", 1_000_000)
    meter = energy.meter_of(CPU)
    for path, value in ((first, 8_500_000), (second, 10_000_000), (core, 99_000_000), (platform, 99_000_000)):
        path.write_text(str(value))
    assert meter.take() == pytest.approx(4.5)
    assert meter.take() == 0.0, "what was taken is not counted twice"
    assert "processor packages" in meter.note


def test_a_counter_that_starts_again_several_times_is_read_in_between(powercap):
    """At 280 W a counter of 65.5 kJ starts again every 234 s; validation and steps read it more often than that."""
    counter, most = zone(powercap, "intel-rapl:0", "package-0", 0, most=65_532_000_000), 65_532_000_000
    meter = energy.meter_of(CPU)
    for seconds in range(100, 3001, 100):
        counter.write_text(str(seconds * 280_000_000 % most))
        meter.read()
    assert meter.take() == pytest.approx(840_000)


def test_a_counter_that_started_again_goes_on(powercap):
    counter = zone(powercap, "intel-rapl:0", "package-0", 90_000_000, most=100_000_000)
    meter = energy.meter_of(CPU)
    counter.write_text("5000000")
    assert meter.take() == pytest.approx(15.0)


def test_without_a_counter_there_is_a_reason_and_no_number(powercap):
    meter = energy.meter_of(CPU)
    assert meter.take() is None
    assert energy.energy_facts(None, meter.note) == {
        "energy_joules": None,
        "energy_note": "not measured: this processor shows no energy counter",
    }


def test_a_counter_that_may_not_be_read_says_so(powercap, monkeypatch):
    zone(powercap, "intel-rapl:0", "package-0", 1)
    read = energy.Path.read_text

    def refusing(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **kwargs)

    monkeypatch.setattr(energy.Path, "read_text", refusing)
    meter = energy.meter_of(CPU)
    assert meter.take() is None
    assert "Permission denied" in meter.note and "administrator" in meter.note


def test_a_counter_that_stops_telling_takes_the_number_away(powercap):
    counter = zone(powercap, "intel-rapl:0", "package-0", 1_000_000)
    meter = energy.meter_of(CPU)
    counter.write_text("2000000")
    assert meter.take() == pytest.approx(1.0)
    counter.unlink()
    assert meter.take() is None and meter.take() is None
    assert meter.note.startswith("not measured: the processor's energy counter cannot be read")


def test_a_sum_with_an_unknown_part_is_unknown_and_says_so():
    assert energy.added(energy.added(0.0, 2.5), 1.0) == 3.5
    assert energy.added(energy.added(0.0, None), 1.0) is None
    assert energy.energy_facts(3.50049, "by the counters of x") == {
        "energy_joules": 3.5,
        "energy_note": "by the counters of x",
    }
    assert energy.energy_facts(None, "by the counters of x")["energy_note"] == "not measured: not from the start"


class NVMLError(Exception):
    pass


def card(readings):
    """NVML as far as it is used; readings in millijoules."""

    def total(handle):
        assert handle == "handle of GPU-1234"
        value = readings.pop(0) if readings else None
        if value is None:
            raise NVMLError("Not Supported")
        return value

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
        nvmlDeviceGetTotalEnergyConsumption=total,
    )


@pytest.fixture
def graphics_card(monkeypatch):
    def play(*readings):
        monkeypatch.setitem(sys.modules, "pynvml", card(list(readings)))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1234"))
        return energy.meter_of(CUDA)

    return play


def test_a_graphics_card_tells_in_millijoules(graphics_card):
    meter = graphics_card(1_000, 1_000, 61_000)
    assert meter.take() == pytest.approx(60.0)
    assert "graphics card" in meter.note


def test_a_graphics_card_that_does_not_tell_gives_a_reason(graphics_card):
    meter = graphics_card()
    assert meter.take() is None
    assert meter.note == "not measured: the graphics card does not report its energy (Not Supported)"
    meter = graphics_card(1_000, 1_000)
    assert meter.take() is None and "stopped reporting" in meter.note


def test_without_the_library_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install 'anymc3d[energy]'" in energy.meter_of(CUDA).note


def test_a_card_whose_counter_falls_has_no_number_any_more(graphics_card):
    meter = graphics_card(90_000, 90_000, 5_000, 9_000)
    assert meter.take() is None and meter.note == "not measured: the counter started again"
    assert meter.take() is None
