"""Result tables: long form on disk, pandas in memory."""
