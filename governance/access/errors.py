"""Errors of access. None of them says which part of a credential was wrong."""

from governance.errors import GovernanceError


class AccessError(GovernanceError):
    """Base of the errors about accounts, sessions, keys and permissions."""

    code = "ACCESS_ERROR"


class NotAuthenticatedError(AccessError):
    """The caller showed no credentials, or none that are valid."""

    code = "NOT_AUTHENTICATED"


class PermissionDeniedError(AccessError):
    """The caller is known, and may not do this."""

    code = "PERMISSION_DENIED"


class UnlabelledEndpointError(AccessError):
    """An endpoint does not say who may call it, so nobody may."""

    code = "ENDPOINT_UNLABELLED"


class LoginRefusedError(AccessError):
    """No session for this login and password. One sentence for every cause."""

    code = "LOGIN_REFUSED"

    def __init__(self) -> None:
        super().__init__(
            "the login name or the password is wrong, or there were too many attempts; "
            "try again in some minutes"
        )


class PasswordRefusedError(AccessError):
    """The new password breaks a rule; the message says which."""

    code = "PASSWORD_REFUSED"


class InvalidAccountError(AccessError):
    """The account cannot be made or changed as asked; the message says why."""

    code = "ACCOUNT_INVALID"


class UnknownAccountError(AccessError):
    """No account has this id."""

    code = "ACCOUNT_UNKNOWN"


class LastHolderError(AccessError):
    """Nobody would be left to act as officer, or to manage accounts."""

    code = "LAST_HOLDER"


class InvalidApiKeyError(AccessError):
    """The API key cannot be made as asked; the message says why."""

    code = "API_KEY_INVALID"


class UnknownApiKeyError(AccessError):
    """No API key in force has this id."""

    code = "API_KEY_UNKNOWN"


class SetupLinkError(AccessError):
    """The set-up link was used, replaced or has expired, or an account exists already."""

    code = "SETUP_LINK_INVALID"
