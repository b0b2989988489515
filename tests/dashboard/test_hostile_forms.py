"""Forms, cookies and headers that no browser sends: refused early, and nothing of them is kept."""

from collections.abc import AsyncIterator

from litestar._parsers import parse_cookie_string, parse_url_encoded_form_data

from farebox.core.bodies import MAX_COOKIES, MAX_FORM_BYTES, MAX_FORM_FIELDS
from tests.dashboard.browsers import FormBrowser, Member, text_of
from tests.gateway.servers import RunningServer
from tests.gateway.watchdog import unstalled

URL_ENCODED = "application/x-www-form-urlencoded"
WIDEST = "\N{GRINNING FACE}" * 1000


async def test_a_form_above_the_bound_is_refused_by_its_announced_length(
    visitor: FormBrowser, site: RunningServer
) -> None:
    body = b"&".join(b"%x=" % number for number in range(200_000))[:999_000]
    headers = {"content-type": URL_ENCODED, "origin": visitor.url}
    async with unstalled(site):
        answer = await visitor.http.post("/sign-in", content=body, headers=headers)
    assert answer.status_code == 413
    assert "more than a form takes here" in text_of(answer.text)


async def test_a_form_that_does_not_announce_its_length_is_refused_while_it_is_read(
    visitor: FormBrowser,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"a" * (MAX_FORM_BYTES // 8)

    headers = {"content-type": URL_ENCODED, "origin": visitor.url}
    answer = await visitor.http.post("/sign-in", content=pieces(), headers=headers)
    assert answer.status_code == 413


async def test_a_form_of_too_many_fields_is_refused(visitor: FormBrowser) -> None:
    answer = await visitor.submit(
        "/sign-in", "/sign-in", **{f"field{number}": "" for number in range(MAX_FORM_FIELDS)}
    )
    assert answer.status_code == 400
    assert "too many fields" in answer.text


async def test_the_longest_that_may_be_typed_fits(visitor: FormBrowser) -> None:
    """A thousand characters of twelve bytes each in every field: what is wrong is said at its field."""
    fields = dict.fromkeys(("name", "organization", "email", "password"), WIDEST)
    answer = await visitor.submit("/sign-up", "/sign-up", **fields)
    assert answer.status_code == 400
    assert "Too long" not in answer.text


async def test_nothing_of_a_form_or_a_cookie_is_kept(owner: Member) -> None:
    kept = parse_url_encoded_form_data.cache_info(), parse_cookie_string.cache_info()
    answer = await owner.browser.submit("/limits", "/projects", name="Kept nowhere")
    assert answer.status_code == 303
    assert (parse_url_encoded_form_data.cache_info(), parse_cookie_string.cache_info()) == kept


async def test_a_session_is_found_among_as_many_cookies_as_browsers_keep(owner: Member) -> None:
    session = "; ".join(f"{name}={value}" for name, value in owner.browser.http.cookies.items())
    owner.browser.http.cookies.clear()
    for others, status in ((MAX_COOKIES - 1, 200), (MAX_COOKIES, 303)):
        before = "".join(f"c{number}=%41;" for number in range(others))
        answer = await owner.browser.get("/overview", headers={"cookie": before + session})
        assert answer.status_code == status
