"""A link opens one highlight of one organization for as long as it says."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.playback_link import LinkState, judge_link, sign_link
from shared.ids import HighlightId, OrganizationId
from shared.object_store import KeyInvalid, check_key, verify_signature

SECRET = "s" * 32
ORGANIZATION, HIGHLIGHT = OrganizationId("org_1"), HighlightId("hl_1")
EXPIRES = 1_000
SIGNATURE = sign_link(ORGANIZATION, HIGHLIGHT, expires=EXPIRES, secret=SECRET)


def judged(**changes: Any) -> LinkState:
    given = {
        "organization_id": ORGANIZATION,
        "highlight_id": HIGHLIGHT,
        "expires": EXPIRES,
        "signature": SIGNATURE,
        "secret": SECRET,
        "now_s": 999.0,
    }
    return judge_link(**given | changes)


def test_a_link_opens_until_its_second() -> None:
    assert LinkState.GENUINE == judged()
    assert LinkState.EXPIRED == judged(now_s=1_000.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"organization_id": "org_2"},
        {"highlight_id": "hl_2"},
        {"expires": 2_000},
        {"signature": ""},
        {"signature": "ä" * 64},
        {"secret": "t" * 32},
        {"organization_id": "org_1\nhl_1", "highlight_id": ""},
    ],
)
def test_nothing_of_a_link_can_be_changed_and_an_old_forgery_is_still_one(changes: dict[str, Any]) -> None:
    assert LinkState.FORGED == judged(**changes)
    assert LinkState.FORGED == judged(**changes | {"now_s": 5_000.0})


def test_a_links_signature_opens_no_stored_object() -> None:
    early = datetime.fromtimestamp(1, UTC)
    for key in (HIGHLIGHT, f"{ORGANIZATION}/{HIGHLIGHT}", f"{ORGANIZATION}\n{HIGHLIGHT}"):
        assert not verify_signature(key, EXPIRES, SIGNATURE, secret=SECRET, now=early)
    with pytest.raises(KeyInvalid):
        check_key(f"highlight playlist\n{ORGANIZATION}\n{HIGHLIGHT}")
