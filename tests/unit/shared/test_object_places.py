"""Where objects lie: the shared bucket, an organization's own, and never the wrong one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import keys
from shared.ids import HighlightId, OrganizationId, StreamId
from shared.keys import organization_of
from shared.object_places import Buckets, Place

BUCKETS = Buckets(
    shared="shared", prefix="tldr/", dedicated={"org_1": "one", "org_2": "two", "profiles": "x"}
)


@pytest.mark.parametrize(
    ("key", "bucket"),
    [
        ("archive/org_1/str_1/000/0000/1.ts", "one"),
        ("clips/org_2/str_1/h/r0/clip.mp4", "two"),
        ("clips/org_3/str_1/h/r0/clip.mp4", "shared"),
        ("exports/org_1/rows.csv", "one"),
        ("profiles/0f.json", "shared"),
        ("profiles/org_1/0f.json", "shared"),
        ("archive/org_1", "shared"),
        ("org_1/archive/x", "shared"),
        ("x", "shared"),
    ],
)
def test_the_second_part_of_a_key_chooses_the_bucket(key: str, bucket: str) -> None:
    assert Place(bucket, f"tldr/{key}") == BUCKETS.place(key)


def test_the_keys_of_the_product_belong_to_their_organization() -> None:
    organization, stream, highlight = OrganizationId("org_1"), StreamId("str_1"), HighlightId("hl_1")
    segment = keys.archive_segment(
        organization, stream, run=0, epoch=0, sequence=1, sha256="0" * 64, extension="ts"
    )
    video = keys.clip_video(organization, stream, highlight, revision=0)
    picture = keys.clip_thumbnail(organization, stream, highlight, revision=0)
    for key in (segment, video, picture, keys.clip_prefix(organization, stream)):
        assert "org_1" == organization_of(key)
    assert organization_of(keys.profile("0" * 64)) is None


@pytest.mark.parametrize(
    ("prefix", "buckets"),
    [
        ("archive/org_1/", ["one"]),
        ("archive/org_1/str_1/0", ["one"]),
        ("clips/org_3/", ["shared"]),
        ("profiles/", ["shared"]),
        ("archive/org_1", ["shared", "one", "two", "x"]),
        ("archive/", ["shared", "one", "two", "x"]),
        ("", ["shared", "one", "two", "x"]),
    ],
)
def test_a_prefix_is_looked_for_wherever_its_keys_may_lie(prefix: str, buckets: list[str]) -> None:
    assert [Place(bucket, f"tldr/{prefix}") for bucket in buckets] == list(BUCKETS.places(prefix))


def test_a_bucket_for_two_organizations_is_searched_once() -> None:
    buckets = Buckets(shared="s", dedicated={"org_1": "both", "org_2": "both"})
    assert [Place("s", ""), Place("both", "")] == list(buckets.places(""))


_PART = st.sampled_from(["archive", "clips", "profiles", "org_1", "org_2", "org_3", "x"])
_KEYS = st.lists(_PART, min_size=1, max_size=4).map("/".join)


@given(_KEYS)
def test_a_key_is_found_again_where_it_was_put_and_nowhere_else(key: str) -> None:
    place = BUCKETS.place(key)
    found = {bucket: BUCKETS.key_in(Place(bucket, place.name)) for bucket in ("shared", "one", "two", "x")}
    assert {place.bucket: key} == {bucket: each for bucket, each in found.items() if each is not None}


@given(_KEYS, st.integers(min_value=0, max_value=20))
def test_every_prefix_of_a_key_leads_to_its_bucket(key: str, length: int) -> None:
    assert BUCKETS.place(key).bucket in [place.bucket for place in BUCKETS.places(key[:length])]
