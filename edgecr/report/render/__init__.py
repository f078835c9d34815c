"""Every form of a report: terminal, Markdown, HTML and its plots."""
