"""The outside world of a sandbox: an SMTP server with a mailbox page, and a receiver of signed webhooks."""
