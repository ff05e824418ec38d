-- User 1 is in two of three groups, has a permission from a group, and another both from there and alone.
INSERT INTO auth_group VALUES (1, 'Editors'), (2, 'Authors'), (3, 'Cooks');
INSERT INTO django_content_type VALUES (1, 'blog'), (2, 'shop');
INSERT INTO auth_permission VALUES (1, 1, 'add_entry'), (2, 2, 'add_entry'), (3, 1, 'delete_entry');
INSERT INTO auth_user_groups VALUES (1, 1), (1, 2), (7, 3);
INSERT INTO auth_group_permissions VALUES (1, 1), (2, 1), (2, 2), (3, 3);
INSERT INTO auth_user_user_permissions VALUES (1, 2), (7, 3);
