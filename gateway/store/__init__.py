"""SQL: where everything is kept.

aiosqlite carries the SQLite driver, in the form in which it holds: its thread runs a whole batch of
decisions in one crossing (`sqlite.BatchConnection.run`), not one statement per awaited call, which
measured 2 k transactions a second against 14 to 23 k. Look-ups of one row do not go through it:
8 µs on the loop, 60 to 150 µs through a thread. More in `sqlite`; group commit is in `writer`.

    sql_store.py, sql_registrar.py   the core's two ports, over any driver
    writer.py, decisions.py          group commit, and what is decided in it
    driver.py, sqlite.py, postgres.py   what a database must offer, and the two that do
    queries.sql, queries.postgres.sql   every statement, by name
    vault.py                         credentials at rest
    migrate.py, migrations/          the schema, by number
    retention.py                     forgetting in time
"""
