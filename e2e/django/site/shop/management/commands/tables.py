"""Tells what stands in the database, for tests to compare: the users, and the shape of Django's tables."""

import json

from django.contrib.auth import get_user_model
from django.core.management import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection


class Command(BaseCommand):
    def handle(self, **_):
        users = {user["username"]: user for user in get_user_model().objects.values()}
        shapes = {}
        with connection.cursor() as cursor:
            for table in sorted(connection.introspection.table_names(cursor)):
                columns = connection.introspection.get_table_description(cursor, table)
                constraints = connection.introspection.get_constraints(cursor, table)
                shapes[table] = [repr(columns), repr(sorted(constraints.items()))]
        self.stdout.write(json.dumps({"users": users, "shapes": shapes}, cls=DjangoJSONEncoder))
