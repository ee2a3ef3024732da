"""The ports of the tests' own servers: a browser must be able to open each."""

from __future__ import annotations

from itertools import islice

from tests.support.processes import own_ports


def test_no_port_is_one_that_browsers_refuse() -> None:
    given = set(islice(own_ports(), 4000))
    assert len(given) > 1900
    assert not given & {3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
