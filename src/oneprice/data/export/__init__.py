"""What a session gives away: bars, tables and line files, all derived from its tape."""
