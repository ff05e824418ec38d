from django.contrib import admin
from django.urls import path
from rest_framework_simplejwt import views as simplejwt

from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login", views.login),
    path("refresh_token", views.refresh_token),
    path("form", views.form),
    path("manage", views.manage),
    path("recipe_api", views.recipe_api),
    path("api", views.api),
    path("simplejwt/login", simplejwt.TokenObtainPairView.as_view()),
    path("simplejwt/blacklist", simplejwt.TokenBlacklistView.as_view()),
]
