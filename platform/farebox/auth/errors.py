"""What is said to people at the door; no answer tells whether an address has an account."""

from farebox.core.errors import BadRequest, Forbidden, RateLimited, Unauthenticated


class WrongCredentials(Unauthenticated):
    """An unknown address, a wrong password and an unconfirmed address look the same.

    Could the last be told apart, signing up and in with one password would tell whether the address
    had an account before.
    """

    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__(
            "The e-mail address or the password is wrong. A new account also needs its address confirmed,"
            " by the link in our mail."
        )


class NotSignedIn(Unauthenticated):
    """There is no session, or it ended; pages lead to the sign-in."""

    code = "not_signed_in"

    def __init__(self) -> None:
        super().__init__("Please sign in.")


class SignUpClosed(Forbidden):
    code = "sign_up_closed"

    def __init__(self) -> None:
        super().__init__("Sign-up is closed; ask whoever runs this Farebox for an account.")


class InvalidLink(BadRequest):
    """Used, expired, superseded or made up."""

    code = "invalid_link"

    def __init__(self) -> None:
        super().__init__("This link is not valid any more; please ask for a new one.", param="token")


class ForgedRequest(Forbidden):
    """An unsafe request that this site's own pages did not send."""

    code = "csrf"

    def __init__(self) -> None:
        super().__init__(
            "This form did not come from this site, or is too old; reload the page and try again."
        )


class TooManyAttempts(RateLimited):
    code = "too_many_attempts"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(
            f"Too many attempts; try again in {retry_after_seconds} s.",
            headers={"Retry-After": str(retry_after_seconds)},
        )
