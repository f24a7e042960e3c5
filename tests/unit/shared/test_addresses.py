import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import (
    BlockedAddress,
    HostPort,
    UrlRefused,
    check_address,
    check_url,
    is_denied,
    parse_allowed,
)

# The set that Svix tests, and what Python 3.11 wrongly calls global (trap T13).
DENIED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
]


@pytest.mark.parametrize("ip", DENIED)
def test_an_address_outside_the_public_internet_is_blocked(ip: str) -> None:
    with pytest.raises(BlockedAddress):
        check_address(ipaddress.ip_address(ip), port=443)


@pytest.mark.parametrize("ip", PUBLIC)
def test_a_public_address_passes(ip: str) -> None:
    check_address(ipaddress.ip_address(ip), port=443)


@given(st.ip_addresses(v=4))
def test_whatever_python_calls_not_global_is_denied_too(ip: ipaddress.IPv4Address) -> None:
    assert is_denied(ip) or ip.is_global


@given(st.ip_addresses(v=6))
def test_whatever_python_calls_not_global_is_denied_in_ipv6_too(ip: ipaddress.IPv6Address) -> None:
    assert is_denied(ip) or ip.is_global


def test_the_allow_list_opens_one_address_at_one_port() -> None:
    allowed = parse_allowed("127.0.0.1:8123")
    loopback = ipaddress.ip_address("127.0.0.1")
    check_address(loopback, port=8123, allowed=allowed)
    with pytest.raises(BlockedAddress):
        check_address(loopback, port=8124, allowed=allowed)
    with pytest.raises(BlockedAddress):
        check_address(ipaddress.ip_address("::ffff:127.0.0.1"), port=8123, allowed=allowed)


def test_the_allow_list_opens_a_name_at_one_port() -> None:
    allowed = parse_allowed("localhost:9000")
    loopback = ipaddress.ip_address("127.0.0.1")
    check_address(loopback, port=9000, allowed=allowed, host="LocalHost")
    with pytest.raises(BlockedAddress):
        check_address(loopback, port=9000, allowed=allowed, host="evil.example")


def test_an_allow_list_is_read_from_text() -> None:
    expected = frozenset({HostPort("127.0.0.1", 8123), HostPort("localhost", 9000), HostPort("::1", 80)})
    assert parse_allowed("127.0.0.1:8123, LOCALHOST:9000 ,[0::1]:80,") == expected
    assert parse_allowed("") == frozenset()


@pytest.mark.parametrize(
    "text", ["127.0.0.1", ":80", "host:", "host:0", "host:65536", "::1:80", "*:80", "10.0.0.0/8:80"]
)
def test_an_allow_list_entry_that_is_not_host_and_port_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|IPv6"):
        parse_allowed(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com/a?b=c", HostPort("example.com", 443)),
        ("https://EXAMPLE.com:8443/", HostPort("example.com", 8443)),
        ("https://[2606:4700:4700::1111]/x", HostPort("2606:4700:4700::1111", 443)),
        ("https://bücher.example/", HostPort("bücher.example", 443)),
    ],
)
def test_a_good_url_tells_where_it_points(url: str, expected: HostPort) -> None:
    assert check_url(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "http"),
        ("example.com/x", "http"),
        ("ftp://example.com/", "http"),
        ("file:///etc/passwd", "http"),
        ("http://example.com/", "must use https"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://user:secret@example.com/", "user name"),
        ("https://example.com@127.0.0.1/", "user name"),
        ("https://example.com:99999/", "port"),
        ("https://example.com:0/", "port"),
        ("https://example.com:25/", "port 25"),
        ("https://exa mple.com/", "space"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://example.com/a\r\nHost: x", "control"),
        ("https://127.1/", "unusual form"),
        ("https://2130706433/", "unusual form"),
        ("https://0x7f.0.0.1/", "unusual form"),
        ("https://a..b/", "not a valid name"),
        ("https://[fe80::1%25eth0]/", "zone|cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https://example.com/" + "a" * 5000, "longer"),
    ],
)
def test_a_url_that_we_would_not_open_is_refused_with_its_reason(url: str, reason: str) -> None:
    with pytest.raises(UrlRefused, match=reason):
        check_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "169.254.169.254",
        "127.0.0.1.",
        "localhost",
        "LOCALHOST.",
        "foo.localhost",
        "printer.local",
        "metadata.google.internal",
    ],
)
def test_a_url_that_names_a_local_address_in_any_writing_is_blocked(host: str) -> None:
    with pytest.raises(BlockedAddress):
        check_url(f"https://{host}/x")


def test_an_allowed_host_may_be_plain_http_on_its_port_only() -> None:
    allowed = parse_allowed("127.0.0.1:8123")
    assert check_url("http://127.0.0.1:8123/hook", allowed=allowed) == HostPort("127.0.0.1", 8123)
    with pytest.raises(UrlRefused):
        check_url("http://127.0.0.1:8124/hook", allowed=allowed)


@given(st.text(max_size=60))
def test_any_text_after_the_scheme_is_judged_without_another_error(text: str) -> None:
    try:
        target = check_url("https://" + text)
    except (UrlRefused, BlockedAddress):
        return
    assert 0 < target.port < 65536
