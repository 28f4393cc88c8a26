"""The catalog in chapters: tables, rows, claims, what people decide. The only place of SQL, with daemon.catalog."""
