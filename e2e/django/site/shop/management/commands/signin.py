"""Signs in by Django's own test client, as a test of the site would; says whether that worked."""

from django.core.management import BaseCommand, CommandError
from django.test import Client


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("username")
        parser.add_argument("password")

    def handle(self, username, password, **_):
        if not Client().login(username=username, password=password):
            raise CommandError("refused")
        self.stdout.write("signed in")
