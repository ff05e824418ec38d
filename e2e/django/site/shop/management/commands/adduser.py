"""Makes a user whose password is kept by the hasher of one's choice."""

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management import BaseCommand


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("username")
        parser.add_argument("password")
        parser.add_argument("--hasher", default="default")
        parser.add_argument("--superuser", action="store_true")

    def handle(self, username, password, hasher, superuser, **_):
        get_user_model().objects.create(
            username=username,
            email=f"{username}@example.org",
            password=make_password(password, hasher=hasher),
            is_staff=superuser,
            is_superuser=superuser,
        )
