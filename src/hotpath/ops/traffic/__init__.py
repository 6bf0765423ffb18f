"""What an access log knows: what crawlers saw, what should be hot, when it is quiet, and the damage."""
