"""Networks that webhooks may come from."""

import pytest

from gateway.domain.hundredms_networks import holds, read_networks
from gateway.domain.refusals import Unacceptable

NETWORKS = ("34.100.213.146/32", "10.1.0.0/16", "2001:db8::/48")


@pytest.mark.parametrize("address", ["34.100.213.146", "10.1.255.1", "2001:db8:0:1::5", "::ffff:10.1.2.3"])
def test_addresses_inside_are_held(address: str) -> None:
    assert holds(NETWORKS, address)


@pytest.mark.parametrize(
    "address", ["34.100.213.147", "10.2.0.1", "2001:db9::1", "", "unix:", "10.1.0.1, 8.8.8.8"]
)
def test_addresses_outside_and_what_is_none_are_not(address: str) -> None:
    assert not holds(NETWORKS, address)


def test_networks_are_kept_in_one_spelling_and_once() -> None:
    assert read_networks([" 34.100.213.146", "34.100.213.146/32", "2001:DB8::/48"]) == (
        "34.100.213.146/32",
        "2001:db8::/48",
    )


@pytest.mark.parametrize("text", ["", "10.0.0.1/33", "10.1.2.3/16", "example.com", "*"])
def test_what_is_no_network_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(Unacceptable) as refusal:
        read_networks([text])
    assert refusal.value.field == "networks"
