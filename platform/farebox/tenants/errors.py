"""What is said to people at the door; no answer tells whether an address has an account."""

from farebox.core.errors import BadRequest, Forbidden, RateLimited, Unauthenticated


class WrongCredentials(Unauthenticated):
    """An unknown address and a wrong password look the same."""

    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__("The e-mail address or the password is wrong.")


class NotSignedIn(Unauthenticated):
    """There is no session, or it ended; pages lead to the sign-in."""

    code = "not_signed_in"

    def __init__(self) -> None:
        super().__init__("Please sign in.")


class EmailNotVerified(Forbidden):
    """Said only to who knows the password."""

    code = "email_not_verified"

    def __init__(self) -> None:
        super().__init__("Please confirm your e-mail address first: we have sent you a link.")


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
