"""The host's side of the conversation with the agent on a board."""
