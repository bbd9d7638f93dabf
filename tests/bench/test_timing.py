"""The names that results are filed under."""

import platform

import pytest

from bench.timing import processor_name

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="/proc/cpuinfo is Linux's")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (CPUINFO, "AMD EPYC (family 25)"),
        (CPUINFO.replace("cpu family", "fms"), "AMD EPYC"),
        ("CPU implementer\t: 0x41\n", platform.machine()),
    ],
)
def test_processor_name(text, name, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    assert processor_name(cpuinfo) == name
