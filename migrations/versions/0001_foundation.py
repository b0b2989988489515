"""The application's roles, the tenant and the person that a transaction acts for, the outbox."""

from alembic import op

from farebox.core.sql import statements

revision = "0001_foundation"
down_revision = None

ROLES = """
DO $$
DECLARE
    role_name text;
    -- From Postgres 16 on, whoever creates a role is its member without the right to become it.
    needed text := CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER'
        ELSE 'SET' END;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['farebox_app', 'farebox_meter'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', role_name);
        END IF;
        IF NOT pg_has_role(current_user, role_name, needed) THEN
            EXECUTE format('GRANT %I TO %I', role_name, current_user);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role_name);
    END LOOP;
END $$
"""

CONTEXT = """
CREATE FUNCTION current_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.organization_id', true), '')::uuid $$;

CREATE FUNCTION current_farebox_user() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.user_id', true), '')::uuid $$;

CREATE FUNCTION current_email() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.email', true), '') $$;

CREATE FUNCTION current_token_sha256() RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT decode(nullif(current_setting('farebox.token_sha256', true), ''), 'hex') $$;
"""

OUTBOX = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_outbox PRIMARY KEY,
    topic text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text
);
CREATE INDEX ix_outbox_next_attempt_at ON outbox (next_attempt_at);
GRANT INSERT (topic, payload) ON outbox TO farebox_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO farebox_meter;
"""


def upgrade() -> None:
    for script in (ROLES, CONTEXT, OUTBOX):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    # The roles stay: they belong to the cluster, whose other databases may use them.
    op.execute("DROP TABLE outbox")
    op.execute(
        "DROP FUNCTION current_organization, current_farebox_user, current_email, current_token_sha256"
    )
