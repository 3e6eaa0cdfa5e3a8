"""Who may log in, and the message that waits for them."""

USERS = {"alice": "alice-in-wonderland", "bob": "bob-the-builder"}

SEED = b"""From: postmaster@example.test\r
To: you@example.test\r
Subject: a first message\r
Message-ID: <first@example.test>\r
\r
It was here before you.\r
"""
