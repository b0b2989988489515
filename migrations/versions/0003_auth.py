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

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON user_session, email_token, sign_in_throttle TO farebox_app;
GRANT SELECT, DELETE ON user_session, email_token, sign_in_throttle TO farebox_meter;
"""


def upgrade() -> None:
    for script in (TABLES, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE sign_in_throttle, email_token, user_session")
