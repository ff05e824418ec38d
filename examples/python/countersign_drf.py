"""Authenticates requests to Django REST Framework by Countersign's access tokens.

The site's settings name the service, `COUNTERSIGN_URL`, and what else `countersign.Verifier` is to know,
`COUNTERSIGN_OPTIONS`. The verifier is made once in each process.
"""

from django.conf import settings
from django.contrib.auth import get_user_model
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication

from countersign import Refused, Verifier

verifier = Verifier(settings.COUNTERSIGN_URL, **getattr(settings, "COUNTERSIGN_OPTIONS", {}))


class Refusal(exceptions.APIException):
    """What the verifier answers, as the framework's own exception handler writes it."""

    def __init__(self, refused):
        super().__init__({"detail": refused.detail, "code": refused.code})
        self.status_code = refused.status
        self.auth_header = refused.headers.get("WWW-Authenticate")
        self.wait = int(refused.headers.get("Retry-After", 0))


class CountersignAuthentication(BaseAuthentication):
    def authenticate(self, request):
        shown = request.headers
        authorization = shown.get("Authorization", "")
        if not authorization.lower().startswith("bearer "):
            return None  # Another class may know who this is.
        try:
            claims = verifier.authenticate(request.method, authorization, shown.get("X-CSRFToken"))
        except Refused as refused:
            raise Refusal(refused)
        user = get_user_model().objects.filter(pk=claims["user_id"], is_active=True).first()
        if user is None:
            raise Refusal(Refused("token_invalid"))
        return user, claims

    def authenticate_header(self, request):
        return "Bearer"
