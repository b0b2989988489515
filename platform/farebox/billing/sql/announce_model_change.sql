-- Trigger after a change of the models on offer or of their prices: every gateway looks anew at what it
-- serves. `NOTIFY` takes a lock of the whole cluster at commit: for rare changes only, never for requests.
CREATE FUNCTION announce_model_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('farebox_model', '');
    RETURN NULL;
END $$;
