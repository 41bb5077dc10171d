"""Stand-ins for the systems outside a shop: an SMTP server with a mailbox page, and a receiver of signed webhooks."""
