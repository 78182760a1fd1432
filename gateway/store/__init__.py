"""SQL: where everything is kept.

aiosqlite carries the SQLite driver, in the form in which it holds: its thread runs a whole batch of
decisions in one crossing (`sqlite.BatchConnection.run`), not one statement per awaited call, which
measured 2 k transactions a second against 14 to 23 k. Look-ups of one row do not go through it:
8 µs on the loop, 60 to 150 µs through a thread. More in `sqlite`; group commit is in `writer`.

    sql_store.py, sql_certificates.py   the core's port, over any driver,
    sql_registrar.py                 and that of the people
    writer.py                        group commit
    decisions.py, births.py          what is decided in it: provisioning,
    children.py, claims.py           gateways' children, claiming,
    readings.py, attributes.py       telemetry and attributes,
    calls.py, presence.py            calls to devices, who is there,
    assignments.py                   packages and who runs them,
    certificates.py, authorities.py  what we sign, and with which keys,
    logins.py, chains.py             credentials that change,
    profiles.py, devices.py          and what people change
    notices.py                       what running gateways hear of at once
    events.py, chain.py              what happened, each tied to the one before it;
    audit.py, verifying.py           read by people, and followed to its end
    driver.py, sqlite.py, postgres.py   what a database must offer, and the two that do
    queries.sql, queries.*.sql       every statement, by name
    queries.postgres.sql             those that PostgreSQL says in other words
    records.py, values.py, series.py, identity.py, credentials.py   rows as core types, and back
    vault.py                         credentials at rest
    packages.py                      the contents of packages, in files
    migrate.py, migrations/          the schema, by number
    retention.py                     forgetting in time
"""
