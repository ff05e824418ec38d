"""Takes away from a user the permissions that were given one by one."""

from django.contrib.auth import get_user_model
from django.core.management import BaseCommand


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("username")

    def handle(self, username, **_):
        get_user_model().objects.get(username=username).user_permissions.clear()
