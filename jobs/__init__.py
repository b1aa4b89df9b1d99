"""Jobs: users' requests and their progress, kept in Redis; the queue, webhooks and API keys. Never loads torch."""
