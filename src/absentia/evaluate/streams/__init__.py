"""The report of a stream of sessions: what its JSON holds, the page, the terminal's table, streams side by side."""
