"""The recipe's views, a page of Django's own, two APIs that say who calls, and a way in for tests."""

from io import StringIO

import jwt
from countersign_drf import CountersignAuthentication
from django.conf import settings
from django.contrib.auth import authenticate, get_user_model
from django.core.management import CommandError, call_command
from django.middleware.csrf import get_token
from django.views.decorators.csrf import csrf_protect, ensure_csrf_cookie
from rest_framework import exceptions
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response

from shop import tokens
from shop.authentication import RecipeAuthentication


@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
@ensure_csrf_cookie
def login(request):
    user = authenticate(username=request.data.get("username"), password=request.data.get("password"))
    if user is None:
        raise exceptions.AuthenticationFailed("wrong username or password")
    answer = Response({"access_token": tokens.access_token(user), "user": {"id": user.pk}})
    answer.set_cookie("refreshtoken", tokens.refresh_token(user), httponly=True)
    return answer


@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
@csrf_protect
def refresh_token(request):
    token = request.COOKIES.get("refreshtoken")
    if token is None:
        raise exceptions.AuthenticationFailed("no refresh token")
    try:
        payload = jwt.decode(token, settings.REFRESH_TOKEN_SECRET, algorithms=["HS256"])
    except jwt.ExpiredSignatureError:
        raise exceptions.AuthenticationFailed("expired refresh token, please login again")
    user = get_user_model().objects.filter(id=payload["user_id"], is_active=True).first()
    if user is None:
        raise exceptions.AuthenticationFailed("User not found")
    return Response({"access_token": tokens.access_token(user)})


@api_view(["GET"])
@authentication_classes([])
@permission_classes([AllowAny])
def form(request):
    """What a page of Django's with a form in it holds: the masked token."""
    return Response({"csrfmiddlewaretoken": get_token(request)})


def who_calls(request):
    return Response({"id": request.user.pk, "username": request.user.username})


@api_view(["GET", "POST"])
@authentication_classes([RecipeAuthentication])
@permission_classes([IsAuthenticated])
def recipe_api(request):
    return who_calls(request)


@api_view(["GET", "POST"])
@authentication_classes([CountersignAuthentication])
@permission_classes([IsAuthenticated])
def api(request):
    return who_calls(request)


@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
def manage(request):
    """Runs a command of manage.py in this process: to start another each time takes seconds."""
    out = StringIO()
    try:
        call_command(*request.data, stdout=out)
    except CommandError as error:
        return Response({"refused": str(error)}, status=400)
    return Response({"out": out.getvalue()})
