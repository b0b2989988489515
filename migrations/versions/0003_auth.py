"""Signed-in browsers, mailed links, and who has guessed too often."""

from alembic import op

from farebox.core.sql import statements

revision = "0003_auth"
down_revision = "0002_tenants"

TABLES = """
CREATE TABLE user_session (
    token_sha256 bytea CONSTRAINT pk_user_session PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT fk_user_session_user_id REFERENCES app_user ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX ix_user_session_user_id ON user_session (user_id);

CREATE TABLE email_token (
    token_sha256 bytea CONSTRAINT pk_email_token PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT fk_email_token_user_id REFERENCES app_user ON DELETE CASCADE,
    purpose text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT ck_email_token_purpose CHECK (purpose IN ('verify', 'reset'))
);
CREATE INDEX ix_email_token_user_id ON email_token (user_id);

CREATE TABLE sign_in_throttle (
    subject bytea CONSTRAINT pk_sign_in_throttle PRIMARY KEY,
    failures integer NOT NULL,
    blocked_until timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
"""

# A person's own rows; before the person is known, the one row whose token was shown.
POLICIES = """
ALTER TABLE user_session ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_session FORCE ROW LEVEL SECURITY;
CREATE POLICY own_sessions ON user_session TO farebox_app
    USING (user_id = current_farebox_user()) WITH CHECK (user_id = current_farebox_user());
CREATE POLICY shown_session ON user_session FOR SELECT TO farebox_app
    USING (token_sha256 = current_token_sha256());
CREATE POLICY shown_session_used ON user_session FOR UPDATE TO farebox_app
    USING (token_sha256 = current_token_sha256()) WITH CHECK (token_sha256 = current_token_sha256());
CREATE POLICY shown_session_ended ON user_session FOR DELETE TO farebox_app
    USING (token_sha256 = current_token_sha256());
CREATE POLICY meter ON user_session TO farebox_meter USING (true);

ALTER TABLE email_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE email_token FORCE ROW LEVEL SECURITY;
CREATE POLICY own_links ON email_token TO farebox_app
    USING (user_id = current_farebox_user()) WITH CHECK (user_id = current_farebox_user());
CREATE POLICY shown_link ON email_token FOR SELECT TO farebox_app
    USING (token_sha256 = current_token_sha256());
CREATE POLICY meter ON email_token TO farebox_meter USING (true);

CREATE POLICY holder_of_shown_token ON app_user FOR SELECT TO farebox_app
    USING (
        id IN (SELECT user_id FROM user_session WHERE token_sha256 = current_token_sha256())
        OR id IN (SELECT user_id FROM email_token WHERE token_sha256 = current_token_sha256())
    );
"""

GRANTS = """
GRANT SELECT, DELETE ON user_session, email_token, sign_in_throttle TO farebox_app;
GRANT INSERT (token_sha256, user_id, expires_at), UPDATE (token_sha256, last_seen_at)
    ON user_session TO farebox_app;
GRANT INSERT (token_sha256, user_id, purpose, expires_at) ON email_token TO farebox_app;
GRANT INSERT (subject, failures, blocked_until, updated_at), UPDATE (failures, blocked_until, updated_at)
    ON sign_in_throttle TO farebox_app;
GRANT DELETE ON user_session, email_token, sign_in_throttle TO farebox_meter;
GRANT SELECT (expires_at, last_seen_at) ON user_session TO farebox_meter;
GRANT SELECT (expires_at) ON email_token TO farebox_meter;
GRANT SELECT (updated_at) ON sign_in_throttle TO farebox_meter;
"""


def upgrade() -> None:
    for script in (TABLES, POLICIES, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP POLICY holder_of_shown_token ON app_user")
    op.execute("DROP TABLE sign_in_throttle, email_token, user_session")
