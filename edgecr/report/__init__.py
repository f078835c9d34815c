"""One result model in; terminal table, JSON, Markdown and HTML out."""
