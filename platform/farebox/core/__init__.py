"""What every domain stands on: settings, database, errors, ids, money, time, logs, outbox."""
