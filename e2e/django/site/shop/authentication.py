"""The recipe's authentication: `Authorization: Token`, the shared secret, and Django's CSRF check."""

import jwt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.middleware.csrf import CsrfViewMiddleware
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication


class _CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request, reason):
        return reason


class RecipeAuthentication(BaseAuthentication):
    def authenticate(self, request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Token":
            return None
        try:
            payload = jwt.decode(token, settings.SECRET_KEY, algorithms=["HS256"])
        except jwt.ExpiredSignatureError:
            raise exceptions.AuthenticationFailed("access_token expired")
        except jwt.InvalidTokenError:
            raise exceptions.AuthenticationFailed("access_token invalid")
        user = get_user_model().objects.filter(id=payload["user_id"]).first()
        if user is None or not user.is_active:
            raise exceptions.AuthenticationFailed("User not found")
        self.enforce_csrf(request)
        return user, payload

    def authenticate_header(self, request):
        return "Token"

    def enforce_csrf(self, request):
        check = _CsrfCheck(lambda _: None)
        check.process_request(request)
        reason = check.process_view(request, None, (), {})
        if reason:
            raise exceptions.PermissionDenied(f"CSRF Failed: {reason}")
