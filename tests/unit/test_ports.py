"""The ports of an embedded stack: taken ones are named, and those that outgoing connections use are refused."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from make_us_rich.core.errors import PortTaken, SettingsError
from make_us_rich.embedded import ports
from make_us_rich.embedded.ports import PORT_OFFSETS, check_ports
from make_us_rich.embedded.stack_config import new_stack_config

LINUX = "32768\t60999\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the kernel says which ports outgoing connections get, here as on any Linux."""
    (tmp_path / "ip_local_port_range").write_text(LINUX)
    monkeypatch.setattr(ports, "_KERNEL", tmp_path)
    return tmp_path


def test_no_two_components_share_a_port() -> None:
    assert len(set(PORT_OFFSETS.values())) == len(PORT_OFFSETS)
    assert set(PORT_OFFSETS.values()).isdisjoint(ports.REPLICA_OFFSETS)


def test_a_taken_port_is_named_with_its_holder_and_a_base_that_can_be_used(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(PortTaken, match=rf"{port} \(mlflow\) is held by .+pid") as caught:
            check_ports(port - PORT_OFFSETS["mlflow"])

    suggested = re.search(r"MUR_PORT_BASE=(\d+)", str(caught.value))
    assert suggested, caught.value
    monkeypatch.setenv("MUR_PORT_BASE", suggested[1])
    check_ports(new_stack_config("simulated").port_base)


@pytest.mark.parametrize("base", [23_500, 30_000, 56_000])
def test_a_base_among_the_ports_of_outgoing_connections_is_refused(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, base: int
) -> None:
    monkeypatch.setenv("MUR_PORT_BASE", str(base))

    with pytest.raises(SettingsError, match=rf"MUR_PORT_BASE={base} .*32768 to 60999.* set it to (\d+)") as caught:
        new_stack_config("simulated")

    monkeypatch.setenv("MUR_PORT_BASE", re.findall(r"set it to (\d+)", str(caught.value))[0])
    new_stack_config("simulated")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("ip_local_reserved_ports", "32999,33000-40000\n", id="an administrator reserved its ports"),
        pytest.param("ip_local_port_range", "1024 65535\n", id="every port is for outgoing connections"),
    ],
)
def test_a_base_among_the_outgoing_ports_is_accepted_where(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str
) -> None:
    (kernel / file).write_text(content)
    monkeypatch.setenv("MUR_PORT_BASE", "30000")

    assert new_stack_config("simulated").port_base == 30_000


def test_the_default_is_left_to_the_installation(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel / "ip_local_port_range").write_text("15000 64000\n")
    monkeypatch.delenv("MUR_PORT_BASE", raising=False)

    assert new_stack_config("simulated").port_base == 20_000
