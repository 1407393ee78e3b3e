"""What other programs say of DICOM files: dicom3tools' ``dciodvfy`` and dcmtk's ``dsrdump``."""

import shutil
import subprocess

import pytest


def validated(path):
    """What dciodvfy finds wrong; the test skips where the program is not there."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("needs dciodvfy, of Debian's dicom3tools")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def dumped(path):
    """A structured report as dsrdump prints it; the test skips where the program is not there."""
    program = shutil.which("dsrdump")
    if program is None:
        pytest.skip("needs dsrdump, of Debian's dcmtk")
    done = subprocess.run([program, "+Pl", str(path)], capture_output=True, text=True, check=True)
    assert not [line for line in done.stderr.splitlines() if line.startswith(("E:", "F:"))]
    return done.stdout
