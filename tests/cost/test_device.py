"""What ``auto`` becomes: bf16 only where the processor, and the libraries as they are limited, compute it natively."""

import os
import subprocess
import sys

import pytest
import torch

from anymc3d.cost.device import DTYPES, choose_dtype, format_of, has_native_bf16, number_format

CPU = torch.device("cpu")
ASK = "import torch; from anymc3d.cost.device import number_format; print(number_format('auto', torch.device('cpu')))"


@pytest.mark.parametrize("limit", ["ATEN_CPU_CAPABILITY=avx2", "ONEDNN_MAX_CPU_ISA=AVX2"])
def test_where_bf16_is_emulated_auto_is_fp32(limit):
    """Whatever this processor can: on a limited one bf16 is many times slower than fp32."""
    name, _, value = limit.partition("=")
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, name: value}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "fp32"


@pytest.mark.parametrize("native", [True, False])
def test_auto_follows_the_device_and_a_name_does_not(monkeypatch, native):
    monkeypatch.setattr("anymc3d.cost.device.has_native_bf16", lambda _: native)
    assert number_format("auto", CPU) == ("bf16" if native else "fp32")
    assert [number_format(name, CPU) for name in DTYPES] == list(DTYPES)
    assert [format_of(choose_dtype(name, CPU)) for name in DTYPES] == list(DTYPES)


@pytest.mark.parametrize("lacks", ["processor", "torch", "onednn"])
def test_all_three_must_have_it(monkeypatch, lacks):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: lacks != "processor", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2" if lacks == "torch" else "AVX512")
    monkeypatch.setattr("anymc3d.cost.device._onednn_has_bf16", lambda: lacks != "onednn")
    assert not has_native_bf16(CPU)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("anymc3d.cost.device._onednn_has_bf16", lambda: True)
    assert has_native_bf16(CPU)
