"""Verifies Countersign's access tokens in Django REST Framework, with its published keys."""

import hashlib
from base64 import urlsafe_b64encode
from hmac import compare_digest

import jwt
from django.conf import settings
from django.contrib.auth import get_user_model
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication

# Fetched once, kept, and fetched again when a key is unknown.
KEYS = jwt.PyJWKClient(f"{settings.COUNTERSIGN_URL}/.well-known/jwks.json", lifespan=600)
SAFE = ("GET", "HEAD", "OPTIONS")


class KeysUnavailable(exceptions.APIException):
    # Not 401: that would make every page refresh, and sign in again, for nothing.
    status_code = 503
    default_detail = "The keys that verify access tokens cannot be fetched. Try again."


class CountersignAuthentication(BaseAuthentication):
    def authenticate(self, request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            if jwt.get_unverified_header(token).get("typ") != "at+jwt":
                raise jwt.InvalidTokenError
            key = KEYS.get_signing_key_from_jwt(token).key
            claims = jwt.decode(
                token,
                key,
                algorithms=["ES256"],
                issuer=settings.COUNTERSIGN_URL,
                options={"require": ["exp", "iat", "sub", "sid", "csrf"]},
            )
        except jwt.PyJWKClientConnectionError:
            raise KeysUnavailable
        except jwt.PyJWTError:
            raise exceptions.AuthenticationFailed("The access token is not valid. Refresh it.")
        shown = hashlib.sha256(request.headers.get("X-CSRFToken", "").encode()).digest()
        shown = urlsafe_b64encode(shown).rstrip(b"=").decode()
        if request.method not in SAFE and not compare_digest(shown, claims["csrf"]):
            raise exceptions.PermissionDenied("Send the CSRF token in X-CSRFToken.")
        user = get_user_model().objects.filter(pk=claims["user_id"], is_active=True).first()
        if user is None:
            raise exceptions.AuthenticationFailed("There is no such user.")
        return user, claims

    def authenticate_header(self, request):
        return "Bearer"
