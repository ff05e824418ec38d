"""Puts a user into a group with a permission, and gives the user another one."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.management import BaseCommand


def permission(name):
    app, codename = name.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("username")
        parser.add_argument("--group", required=True)
        parser.add_argument("--of-group", required=True)
        parser.add_argument("--own", required=True)

    def handle(self, username, group, of_group, own, **_):
        user = get_user_model().objects.get(username=username)
        group, _ = Group.objects.get_or_create(name=group)
        group.permissions.add(permission(of_group))
        user.groups.add(group)
        user.user_permissions.add(permission(own))
