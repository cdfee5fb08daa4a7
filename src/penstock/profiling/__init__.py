"""The samples of a profile, and the files that show them: a report in HTML and a trace."""
