-- The tables of django.contrib.auth and of simplejwt's blacklist, with the columns that are read.
CREATE TABLE auth_group (id integer PRIMARY KEY, name varchar(150) NOT NULL);
CREATE TABLE django_content_type (id integer PRIMARY KEY, app_label varchar(100) NOT NULL);
CREATE TABLE auth_permission (
    id integer PRIMARY KEY, content_type_id integer NOT NULL, codename varchar(100) NOT NULL);
CREATE TABLE auth_group_permissions (group_id integer NOT NULL, permission_id integer NOT NULL);
CREATE TABLE auth_user_groups (user_id integer NOT NULL, group_id integer NOT NULL);
CREATE TABLE auth_user_user_permissions (user_id integer NOT NULL, permission_id integer NOT NULL);
CREATE TABLE token_blacklist_outstandingtoken (id integer PRIMARY KEY, jti varchar(255) NOT NULL);
CREATE TABLE token_blacklist_blacklistedtoken (id integer PRIMARY KEY, token_id integer NOT NULL);
