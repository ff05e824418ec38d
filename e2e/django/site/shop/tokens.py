"""The recipe's two tokens: signed with two secrets, and alike but for their lives."""

from datetime import datetime, timedelta, timezone

import jwt
from django.conf import settings


def access_token(user):
    return _token(user, timedelta(minutes=5), settings.SECRET_KEY)


def refresh_token(user):
    return _token(user, timedelta(days=7), settings.REFRESH_TOKEN_SECRET)


def _token(user, life, secret):
    now = datetime.now(timezone.utc)
    return jwt.encode({"user_id": user.pk, "exp": now + life, "iat": now}, secret, algorithm="HS256")
