"""What leaves the service by itself: mails and webhooks, from queues that survive every crash."""
