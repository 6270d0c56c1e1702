"""What the papers claim and print, and tables, claims and figures of the rows that were measured here."""
